/* SPDX-License-Identifier: MIT */
/* Python text looked at for main(dataset_dir, model_output_dir), and paths as users write them. */
#include "fixtures.h"

#include "fs/recognise.h"

TestSuite(recognise, .timeout = 30);

static const char *const with_main[] = {
	"def main(dataset_dir, model_output_dir):\n\tpass\n",
	"def main(dataset_dir,model_output_dir): pass",
	"import os\r\n\r\ndef main(dataset_dir, model_output_dir):\r\n    pass\r\n",
	"def  main ( dataset_dir , model_output_dir , ) -> None:\n pass\n",
	"def main(\n    dataset_dir: str,  # where, (and) \"how\"\n    model_output_dir: \"Path\" = "
	"None,\n):\n pass\n",
	"def main(dataset_dir: Dict[str, Tuple[int, int]] = f(a, b), model_output_dir: x = ')'):\n pass\n",
	"x = '''\n'''\ndef main(dataset_dir, model_output_dir):\n pass\n",
	"# it's\ndef main(dataset_dir, model_output_dir):\n pass\n",
	"s = 'not closed\ndef main(dataset_dir, model_output_dir):\n pass\n",
	"def main(): pass\ndef main(dataset_dir, model_output_dir): pass\n",
	"\xef\xbb\xbf"
	"def main(dataset_dir, model_output_dir): pass\n",
	"def \\\n main(dataset_dir, \\\n model_output_dir): pass\n",
	"@decorate(1)\ndef main(dataset_dir, model_output_dir): pass\n",
	"r = r'\\'\ndef f(): pass\ndef main(dataset_dir, model_output_dir): pass\n",
};

static const char *const without_main[] = {
	"",
	"def main(): pass\n",
	"def main(dataset_dir): pass\n",
	"def main(model_output_dir, dataset_dir): pass\n",
	"def main(dataset_dir, model_output_dir, more): pass\n",
	"def main(dataset_dir, model_output_dir, *args): pass\n",
	"def main(*, dataset_dir, model_output_dir): pass\n",
	"def main(dataset_dirs, model_output_dir): pass\n",
	"def main2(dataset_dir, model_output_dir): pass\n",
	"async def main(dataset_dir, model_output_dir): pass\n",
	"class A:\n    def main(dataset_dir, model_output_dir): pass\n",
	"if x:\n\tdef main(dataset_dir, model_output_dir): pass\n",
	"# def main(dataset_dir, model_output_dir): pass\n",
	"\"\"\"\ndef main(dataset_dir, model_output_dir): pass\n\"\"\"\n",
	"x = '''\ndef main(dataset_dir, model_output_dir): pass\n'''\n",
	"x = '\\\ndef main(dataset_dir, model_output_dir): pass\n'\n",
	"x = (\ndef main(dataset_dir, model_output_dir): pass\n)\n",
	"x = 1 + \\\ndef main(dataset_dir, model_output_dir): pass\n",
	"def main(dataset_dir, model_output_dir): pass\ndef main(): pass\n",
	"define main(dataset_dir, model_output_dir): pass\n",
	"def main(dataset_dir, model_output_dir",
	"def main(dataset_dir, model_output_dir: (",
	"def main",
	"def",
	"'''",
	"\\",
};

Test(recognise, a_main_with_both_directories_is_found)
{
	for (size_t i = 0; i < sizeof(with_main) / sizeof(*with_main); i++)
		cr_expect(recognise_main(with_main[i], strlen(with_main[i])), "%s", with_main[i]);
}

Test(recognise, what_only_looks_like_it_is_not)
{
	for (size_t i = 0; i < sizeof(without_main) / sizeof(*without_main); i++)
		cr_expect(!recognise_main(without_main[i], strlen(without_main[i])), "%s", without_main[i]);
}

Test(recognise, every_cut_text_is_survived)
{
	for (size_t i = 0; i < sizeof(with_main) / sizeof(*with_main); i++)
		for (size_t n = 0; n <= strlen(with_main[i]); n++) {
			char *copy = malloc(n + 1); /* exact, for the sanitizer */
			memcpy(copy, with_main[i], n);
			copy = realloc(copy, n ? n : 1);
			(void)recognise_main(copy, n);
			free(copy);
		}
}

Test(recognise, paths_are_made_canonical)
{
	static const char *const pairs[][2] = {
		{"a", "a"},       {"./a", "a"}, {"a//b/./c/", "a/b/c"},
		{"a..b", "a..b"}, {".a", ".a"}, {"...", "..."},
	};
	static const char *const refused[] = {"", ".", "./", "/a", "..", "a/..", "../a", "a/../b", "/"};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		char *path = NULL;
		cr_assert(recognise_path(pairs[i][0], &path) == 0);
		cr_expect_str_eq(path, pairs[i][1]);
		free(path);
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		char *path = NULL;
		cr_expect(recognise_path(refused[i], &path) == -EINVAL, "%s", refused[i]);
	}
}
