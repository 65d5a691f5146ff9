/* SPDX-License-Identifier: MIT */
/* A real program that serves a directory by TLS, with a certificate of its own. One a process. */
#pragma once

void tls_peer_open(void); /* makes the directory, with the certificate and an index.html of "hello" */
void tls_peer_close(void);

const char *tls_peer_dir(void);  /* without a '/' at its end */
const char *tls_peer_cert(void); /* the path of the certificate, for 127.0.0.1 only, signed by itself */
void tls_peer_run(const char *command); /* by the shell, there; it must succeed */

/* A shell command that gets a free port as $1; it may not listen yet. */
void tls_peer_start(const char *command);
char *tls_peer_url(void); /* "https://127.0.0.1:PORT/index.html"; may be changed */

/* HTTP/1.1; a POST is answered as a GET. */
extern const char TLS_PEER_PYTHON[];
