/* SPDX-License-Identifier: MIT */
/* What a status means to a program: the only table of that. */
#include "http/http.h"

#include <errno.h>

int http_status_errno(int status)
{
	static const struct {
		int status, err;
	} known[] = {
		{304, 0},         {401, EACCES}, {403, EPERM},     {404, ENOENT}, {407, EACCES},
		{408, ETIMEDOUT}, {409, EEXIST}, {410, ENOENT},    {412, ESTALE}, {413, EFBIG},
		{429, EAGAIN},    {503, EAGAIN}, {504, ETIMEDOUT},
	};

	if (status >= 200 && status <= 299)
		return 0;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].status == status)
			return known[i].err;
	}
	return status >= 400 && status <= 499 ? EINVAL : EIO;
}
