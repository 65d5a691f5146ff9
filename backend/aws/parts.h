/* SPDX-License-Identifier: MIT */
/* An upload in parts; what upload.c and complete.c share. */
#pragma once

#include "aws/aws.h"

struct aws_part {
	int64_t n;                         /* bytes; 0: not at S3 yet */
	char etag[OBJECT_VERSION_MAX + 1]; /* as S3 named it */
	char crc32c[AWS_CRC_MAX];          /* "" of a copied part that S3 told no sum of */
	uint32_t crc;
};

struct aws_upload {
	struct object_upload base; /* protected by lock */

	/* immutable */
	struct aws *aws;
	char *bucket, *key, *id;
	char *note; /* of leftover.h, this process's while note_fd is open */
	int note_fd;
	int64_t least;                 /* bytes of the first part */
	const char *copy, *copy_match; /* x-amz-copy-source of a copy, and the version; NULL */

	const struct object_source *source; /* of the put that is under way */
	struct aws_part *part;              /* AWS_PARTS_MAX; each is its sender's until all are there */
	bool may_be_done;                   /* the end was asked for, and the answer got lost */

	pthread_mutex_t lock;
	/* protected by lock; by put */
	unsigned n_taken;
	unsigned n_parts; /* once n_bytes are known */
	int64_t n_bytes;  /* -1: not known yet */
	int64_t moved_ms; /* when a part last got through */
	int err;          /* of the first that failed: 0 or -errno */
	struct fault fault;
};

enum { AWS_COMPLETE_MS = 10 * 60 * 1000 };

/* All parts are there. Errors as object_put; -ENOENT: the upload is not there any more. */
int aws_upload_complete(struct aws_upload *upload, const char *if_version, struct object_detail *ret,
			struct fault *reterr);
