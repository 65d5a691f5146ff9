/* SPDX-License-Identifier: MIT */
/* The table of statuses, against the list in http.h. */
#include "http/http.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>

Test(status, has_an_errno_for_every_number)
{
	for (int status = -1; status < 1000; status++) {
		int err = http_status_errno(status);
		bool is_good = (status >= 200 && status <= 299) || status == 304;
		cr_expect(is_good ? err == 0 : err > 0, "%d", status);
	}
}

Test(status, is_what_the_header_says)
{
	static const struct {
		int status, err;
	} cases[] = {
		{200, 0},         {204, 0},      {206, 0},      {299, 0},         {304, 0},
		{300, EIO},       {301, EIO},    {307, EIO},    {308, EIO},       {400, EINVAL},
		{401, EACCES},    {403, EPERM},  {404, ENOENT}, {405, EINVAL},    {407, EACCES},
		{408, ETIMEDOUT}, {409, EEXIST}, {410, ENOENT}, {411, EINVAL},    {412, ESTALE},
		{413, EFBIG},     {416, EINVAL}, {429, EAGAIN}, {499, EINVAL},    {500, EIO},
		{501, EIO},       {502, EIO},    {503, EAGAIN}, {504, ETIMEDOUT}, {599, EIO},
		{600, EIO},       {199, EIO},    {0, EIO},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect(eq(int, http_status_errno(cases[i].status), cases[i].err), "%d", cases[i].status);
}
