/* SPDX-License-Identifier: MIT */
/* The buckets of `local`: plain directories. */
#pragma once

struct bucket_ops;

extern const struct bucket_ops local_bucket_ops;
