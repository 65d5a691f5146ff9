/* SPDX-License-Identifier: MIT */
/* `trainfs check`: what works, and how to mend what does not. */
#pragma once

struct options;

/* Prints a line for each thing looked at. Returns the exit code: 0 if all is well, else 1. */
int check_command(const struct options *options);
