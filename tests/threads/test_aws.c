/* SPDX-License-Identifier: MIT */
/* One aws remote and many threads: uploads in parts, some of which fail, reads, listings, buckets in another region. */
#include "backend.h"
#include "cleanup.h"
#include "server.h"
#include "str.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

enum { N_THREADS = 6, N_ROUNDS = 2, BIG = (8 << 20) + (64 << 10), SMALL = 1000 };

static struct backend *be;
static atomic_uint n_done;

#define CHECK(what)                                                                \
	do {                                                                       \
		if (!(what)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
			_exit(1);                                                  \
		}                                                                  \
	} while (0)

/* ---- the service */

#define FAILS(code) "<Error><Code>" code "</Code><Region>eu-west-1</Region></Error>"

static bool has(const struct server_request *request, const char *method, const char *part)
{
	return strcmp(request->method, method) == 0 && strstr(request->target, part);
}

static void serve(void *arg, const struct server_request *request, struct server_answer *ret)
{
	*ret = (struct server_answer){.headers = "ETag: \"e\"\r\n"};
	if (!strstr(request->head, "/eu-west-1/s3/"))
		*ret = (struct server_answer){.status = 400, .body = FAILS("AuthorizationHeaderMalformed")};
	else if (has(request, "PUT", "/fails?partNumber=2"))
		*ret = (struct server_answer){.status = 403, .body = FAILS("AccessDenied")};
	else if (has(request, "POST", "?uploads="))
		ret->body = "<InitiateMultipartUploadResult><UploadId>id</UploadId></"
			    "InitiateMultipartUploadResult>";
	else if (has(request, "POST", "uploadId=id"))
		ret->body = "<CompleteMultipartUploadResult><ETag>e-2</ETag></CompleteMultipartUploadResult>";
	else if (has(request, "GET", "uploadId=id"))
		*ret = (struct server_answer){.status = 404, .body = FAILS("NoSuchUpload")};
	else if (has(request, "GET", "list-type=2"))
		ret->body = "<ListBucketResult><Contents><Key>k</Key><ETag>e</ETag><Size>1</Size></Contents>"
			    "</ListBucketResult>";
	else if (has(request, "GET", "/k"))
		*ret = (struct server_answer){.status = 206,
					      .headers = "Content-Range: bytes 0-1999999/2000000\r\n",
					      .n_body = 2000000};
}

/* ---- its users */

static int put(const char *bucket, const char *key, size_t n)
{
	cleanup_close int fd = memfd_create("object", MFD_CLOEXEC);
	struct object_detail detail = {0};
	CHECK(fd >= 0 && ftruncate(fd, (off_t)n) == 0);
	int r = backend_object_put(be, bucket, key, fd, (int64_t)n, NULL, &detail, NULL);
	object_detail_release(&detail);
	return r;
}

static int count_bytes(void *arg, const void *bytes, size_t n)
{
	*(size_t *)arg += n;
	return 0;
}

static int count_row(void *arg, const struct object_entry *object)
{
	*(unsigned *)arg += 1;
	return 0;
}

static void *use(void *arg)
{
	for (unsigned i = 0; i < N_ROUNDS; i++) {
		char bucket[32];
		struct object_page page;
		size_t n_bytes = 0;
		unsigned n_rows = 0;
		snprintf(bucket, sizeof(bucket), "bucket-%u", (i + *(const unsigned *)arg) % 5);
		CHECK(put(bucket, "k", SMALL) == 0);
		CHECK(put(bucket, "k", BIG) == 0);
		CHECK(put(bucket, "fails", BIG) == -EPERM);
		CHECK(backend_objects(be, bucket, "", "", 10, count_row, &n_rows, &page, NULL) == 0 &&
		      n_rows == 1);
		CHECK(backend_object_read(be, bucket, "k", "e", 0, 2000000, count_bytes, &n_bytes, NULL,
					  NULL) == 0);
		CHECK(n_bytes == 2000000);
		atomic_fetch_add(&n_done, 1);
	}
	return NULL;
}

int main(void)
{
	char dir[] = "/tmp/trainfs-threads.XXXXXX";
	cleanup_free char *remove = NULL;
	struct server *server;
	pthread_t thread[N_THREADS];
	unsigned number[N_THREADS];
	CHECK(mkdtemp(dir) && server_new(&server) == 0);
	server_answer_with(server, serve, NULL);
	setenv("AWS_ACCESS_KEY_ID", "ID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
	setenv("AWS_REGION", "us-east-1", 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	cleanup_json json_t *options = json_pack("{s:s}", "endpoint", server_url(server));
	const struct backend_conf conf = {.name = "remote", .state_dir = dir, .options = options};
	CHECK(backend_open("aws", &conf, &be, NULL) == 0);
	for (unsigned i = 0; i < N_THREADS; i++) {
		number[i] = i;
		CHECK(pthread_create(&thread[i], NULL, use, &number[i]) == 0);
	}
	for (unsigned i = 0; i < N_THREADS; i++)
		pthread_join(thread[i], NULL);
	CHECK(n_done == N_THREADS * N_ROUNDS);
	backend_close(be);
	server_free(server);
	CHECK(str_format(&remove, "%s/uploads", dir) == 0 && rmdir(remove) == 0 && rmdir(dir) == 0);
	return 0;
}
