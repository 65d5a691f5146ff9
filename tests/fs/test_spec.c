/* SPDX-License-Identifier: MIT */
/* job.yaml and job.json: every fixture, and texts too odd or too large to be files of the repository. */
#include "fixtures.h"

#include <jansson.h>

#include "cleanup.h"
#include "fs/spec.h"

TestSuite(spec, .timeout = 60);

static int parse(const char *name, const char *text, size_t n, char **ret, struct fault *fault)
{
	cleanup_yaml struct yaml yaml = {0};
	cleanup_json json_t *spec = NULL;
	int r = spec_parse(name, text, n, &yaml, &spec, fault);
	if (r == 0 && ret)
		*ret = json_dumps(spec, JSON_INDENT(2));
	return r;
}

/* NAME.expect belongs to NAME, which ends in .yaml or .json. */
static void check_fixture(const char *dir, const char *name, bool is_ok, const char *text)
{
	char path[1024];
	char *input = NULL, *dumped = NULL;
	size_t n;
	struct fault fault = {0};
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	cr_assert(file_read_all(AT_FDCWD, path, 1 << 20, &input, &n) == 0, "%s", path);
	int r = parse(name, input, n, &dumped, &fault);
	if (is_ok) {
		cr_expect(r == 0, "%s: %s", name, fault.text);
		cr_expect(r < 0 || strcmp(dumped, text) == 0, "%s gives\n%s", name, dumped);
	} else {
		cr_expect(r == -EBADMSG && fault.err == EBADMSG, "%s: %d", name, r);
		cr_expect(strcmp(fault.text, text) == 0, "%s says\n%s", name, fault.text);
	}
	free(input);
	free(dumped);
}

Test(spec, fixtures_give_what_they_expect)
{
	fixtures_each("spec", check_fixture);
}

static void refused(const char *name, const char *text, size_t n, const char *words)
{
	struct fault fault = {0};
	int r = parse(name, text, n, NULL, &fault);
	cr_assert(r == -EBADMSG, "%d %s", r, fault.text);
	says(fault, words);
}

/* `piece` repeated `times`, between `before` and `after`. */
static void refused_repeated(const char *name, const char *before, const char *piece, size_t times,
			     const char *after, const char *words)
{
	struct str text = {0};
	str_append(&text, before);
	for (size_t i = 0; i < times; i++)
		str_append(&text, piece);
	cr_assert(str_append(&text, after) == 0);
	refused(name, text.data, text.len, words);
	str_release(&text);
}

Test(spec, a_text_of_10_megabytes_is_refused)
{
	refused_repeated("job.yaml", "model: ", "aaaaaaaaaa", 1000000, "\n", "larger than 1 MiB");
	refused_repeated("job.json", "{\"model\": \"", "aaaaaaaaaa", 1000000, "\"}", "larger than 1 MiB");
}

Test(spec, nesting_of_10000_is_refused_at_its_33rd_level)
{
	refused_repeated("job.yaml", "google: {a: ", "[", 10000, "", "job.yaml:1:43: nested deeper than 32");
	refused_repeated("job.yaml", "google: {a: ", "{b: ", 10000, "", "nested deeper than 32");
	refused_repeated("job.yaml", "google:\n", "- ", 10000, "x\n", "nested deeper than 32");
	refused_repeated("job.json", "{\"google\": ", "[", 10000, "", "job.json:1:");
}

Test(spec, anchors_that_explode_are_refused_at_the_first)
{
	static const char laughs[] =
		"labels:\n  a: &a [ha, ha, ha]\n  b: &b [*a, *a, *a]\n  c: [*b, *b, *b]\n";
	refused("job.yaml", laughs, sizeof(laughs) - 1, "job.yaml:2:9: anchors");
}

Test(spec, too_many_values_are_refused)
{
	refused_repeated("job.yaml", "args: [", "a, ", 30000, "a]", "more than 20000 values");
}

Test(spec, bytes_that_no_text_has_are_refused_where_they_stand)
{
	refused("job.yaml", "model: a\0b\n", 11, "job.yaml:1:9: the control byte 0x00");
	refused("job.yaml", "model: a\nenv: {A: \xff}\n", 21, "job.yaml:2:10: the byte 0xFF is not UTF-8");
	refused("job.yaml", "model: \xc0\x80\n", 10, "job.yaml:1:8: the byte 0xC0 is not UTF-8");
	refused("job.yaml", "model: \xed\xa0\x80\n", 11, "is not UTF-8");
	refused("job.yaml", "model: \x1b[31m\n", 13, "job.yaml:1:8: the control byte 0x1B");
	refused("job.yaml", "model: \"a\\0b\"\n", 14, "a NUL character");
	refused("job.json", "{\"model\": \"a\\u0000b\"}", 22, "job.json:1:");
	refused("job.yaml", "model: \"\\e[31m\"\n", 16, "not `\\x1B[31m`");
}

Test(spec, line_ends_of_other_systems_and_a_byte_order_mark_are_taken)
{
	static const char text[] = "\xef\xbb\xbfmodel: m\r\nretries: 3\r\n";
	char *dumped = NULL;
	struct fault fault = {0};
	cr_assert(parse("job.yaml", text, sizeof(text) - 1, &dumped, &fault) == 0, "%s", fault.text);
	cr_assert_str_eq(dumped, "{\n  \"model\": \"m\",\n  \"retries\": 3\n}");
	free(dumped);
	refused("job.yaml", "model: m\r\n\r\nfoo: 1\r\n", 20, "job.yaml:3:1: unknown field `foo`");
}

Test(spec, long_names_in_a_fault_are_cut)
{
	refused_repeated("job.yaml", "", "x", 5000, ": 1\n", "job.yaml:1:1: unknown field `xxxx");
	refused_repeated("job.yaml", "retries: ", "\\n", 5000, "\n",
			 "job.yaml:1:10: `retries` must be a whole");
}

Test(spec, nothing_goes_to_stderr)
{
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	cr_assert(file && saved >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
	(void)parse("job.yaml", "a: [\n", 5, NULL, NULL);
	(void)parse("job.yaml", "a: \"\n", 5, NULL, NULL);
	(void)parse("job.yaml", "\t- a: b: c\n", 11, NULL, NULL);
	dup2(saved, STDERR_FILENO);
	cr_assert(fseek(file, 0, SEEK_END) == 0);
	cr_assert(ftell(file) == 0);
	fclose(file);
	close(saved);
}
