/* SPDX-License-Identifier: MIT */
#include "tls_peer.h"

#include "server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	char dir[64], cert[80], url[64];
	pid_t pid;
} peer;

const char TLS_PEER_PYTHON[] = "exec python3 -c 'import sys, ssl, http.server\n"
			       "class H(http.server.SimpleHTTPRequestHandler):\n"
			       "    protocol_version = \"HTTP/1.1\"\n"
			       "    def do_POST(self):\n"
			       "        self.rfile.read(int(self.headers[\"Content-Length\"]))\n"
			       "        self.do_GET()\n"
			       "s = http.server.ThreadingHTTPServer((\"127.0.0.1\", int(sys.argv[1])), H)\n"
			       "c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
			       "c.load_cert_chain(\"cert.pem\", \"key.pem\")\n"
			       "s.socket = c.wrap_socket(s.socket, server_side=True)\n"
			       "s.serve_forever()' $1 2>>log";

void tls_peer_run(const char *command)
{
	char line[1024];

	(void)snprintf(line, sizeof(line), "cd %s && %s", peer.dir, command);
	cr_assert(eq(int, system(line), 0), "%s", line);
}

void tls_peer_open(void)
{
	(void)snprintf(peer.dir, sizeof(peer.dir), "/tmp/trainfs-tls.XXXXXX");
	cr_assert(mkdtemp(peer.dir) != NULL);
	(void)snprintf(peer.cert, sizeof(peer.cert), "%s/cert.pem", peer.dir);
	tls_peer_run(
		"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem "
		"-out cert.pem -days 2 -subj /CN=trainfs-test -addext subjectAltName=IP:127.0.0.1 >log 2>&1 "
		"&& echo hello >index.html");
}

void tls_peer_close(void)
{
	if (peer.pid > 0) {
		(void)kill(peer.pid, SIGKILL);
		(void)waitpid(peer.pid, NULL, 0);
	}
	tls_peer_run("rm -rf \"$PWD\"");
}

const char *tls_peer_dir(void)
{
	return peer.dir;
}

const char *tls_peer_cert(void)
{
	return peer.cert;
}

char *tls_peer_url(void)
{
	return peer.url;
}

void tls_peer_start(const char *command)
{
	struct server *free_port;
	char port[16];

	cr_assert(eq(int, server_new(&free_port), 0));
	(void)snprintf(port, sizeof(port), "%d", server_port(free_port));
	(void)snprintf(peer.url, sizeof(peer.url), "https://127.0.0.1:%s/index.html", port);
	server_free(free_port);
	peer.pid = fork();
	cr_assert(ge(int, peer.pid, 0));
	if (peer.pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (chdir(peer.dir) == 0)
			execl("/bin/sh", "sh", "-c", command, "sh", port, NULL);
		_exit(127);
	}
}
