/* SPDX-License-Identifier: MIT */
/*
 * Finds `def main(dataset_dir, model_output_dir)` in Python text. A scanner that knows as much of Python as it needs
 * to tell a statement at the beginning of a line from the inside of a string, a comment or brackets. Every step
 * moves forward, so that hostile text costs one pass.
 */
#include "recognise.h"

#include <string.h>

struct scanner {
	const char *at, *end;
};

static bool scan_is(const struct scanner *scan, const char *word)
{
	size_t n = strlen(word);
	return (size_t)(scan->end - scan->at) >= n && memcmp(scan->at, word, n) == 0;
}

static bool is_word_byte(char c)
{
	return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (unsigned char)c >= 0x80;
}

/* At a quote: over the string, one that is not closed to the end of its line (or of the text). */
static void scan_string(struct scanner *scan)
{
	char mark = *scan->at;
	char triple[4] = {mark, mark, mark, '\0'};
	bool is_triple = scan_is(scan, triple);
	scan->at += is_triple ? 3 : 1;
	while (scan->at < scan->end) {
		if (*scan->at == '\\') {
			scan->at += scan->end - scan->at > 1 ? 2 : 1;
		} else if (is_triple ? scan_is(scan, triple) : *scan->at == mark) {
			scan->at += is_triple ? 3 : 1;
			return;
		} else if (!is_triple && *scan->at == '\n') {
			return;
		} else {
			scan->at++;
		}
	}
}

static void scan_comment(struct scanner *scan)
{
	while (scan->at < scan->end && *scan->at != '\n')
		scan->at++;
}

/* One string, comment, continued line, word, or byte. */
static void scan_step(struct scanner *scan)
{
	char c = *scan->at;
	if (c == '"' || c == '\'') {
		scan_string(scan);
	} else if (c == '#') {
		scan_comment(scan);
	} else if (c == '\\') {
		scan->at++;
		scan->at += scan->at < scan->end && *scan->at == '\r';
		scan->at += scan->at < scan->end && *scan->at == '\n';
	} else if (is_word_byte(c)) {
		while (scan->at < scan->end && is_word_byte(*scan->at))
			scan->at++;
	} else {
		scan->at++;
	}
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f';
}

/* Over blanks and continued lines; with `is_inside` (brackets) over lines and comments too. */
static void scan_blanks(struct scanner *scan, bool is_inside)
{
	while (scan->at < scan->end) {
		char c = *scan->at;
		if (!(is_blank(c) || c == '\\' || (is_inside && (c == '\n' || c == '#'))))
			return;
		scan_step(scan);
	}
}

static bool scan_word(struct scanner *scan, const char *word)
{
	size_t n = strlen(word);
	if (!scan_is(scan, word) || (scan->at + n < scan->end && is_word_byte(scan->at[n])))
		return false;
	scan->at += n;
	return true;
}

static bool scan_byte(struct scanner *scan, char c)
{
	if (scan->at == scan->end || *scan->at != c)
		return false;
	scan->at++;
	return true;
}

/* Over an annotation or a default: to a comma or the closing bracket of the parameters. */
static void scan_to_next_parameter(struct scanner *scan)
{
	size_t depth = 0;
	while (scan->at < scan->end) {
		char c = *scan->at;
		if (depth == 0 && (c == ',' || c == ')'))
			return;
		if (c == '(' || c == '[' || c == '{')
			depth++;
		else if (c == ')' || c == ']' || c == '}')
			depth -= depth > 0;
		scan_step(scan);
	}
}

static bool scan_parameter(struct scanner *scan, const char *name)
{
	scan_blanks(scan, true);
	if (!scan_word(scan, name))
		return false;
	scan_blanks(scan, true);
	if (scan->at < scan->end && (*scan->at == ':' || *scan->at == '='))
		scan_to_next_parameter(scan);
	return true;
}

/* Behind `def main`. */
static bool scan_parameters(struct scanner *scan)
{
	scan_blanks(scan, false);
	if (!scan_byte(scan, '(') || !scan_parameter(scan, "dataset_dir") || !scan_byte(scan, ',') ||
	    !scan_parameter(scan, "model_output_dir"))
		return false;
	if (scan_byte(scan, ','))
		scan_blanks(scan, true);
	return scan_byte(scan, ')');
}

bool recognise_main(const char *text, size_t n)
{
	struct scanner scan = {text, text + n};
	bool is_line_start = true, is_found = false;
	size_t depth = 0;
	if (scan_is(&scan, "\xef\xbb\xbf"))
		scan.at += 3;
	while (scan.at < scan.end) {
		if (is_line_start && depth == 0 && scan_word(&scan, "def")) {
			scan_blanks(&scan, false);
			if (scan_word(&scan, "main")) {
				struct scanner ahead = scan;
				is_found = scan_parameters(&ahead);
			}
			is_line_start = false;
			continue;
		}
		char c = *scan.at;
		if (c == '(' || c == '[' || c == '{')
			depth++;
		else if (c == ')' || c == ']' || c == '}')
			depth -= depth > 0;
		is_line_start = c == '\n';
		scan_step(&scan);
	}
	return is_found;
}
