/* SPDX-License-Identifier: MIT */
/* Arithmetic of CRCs: polynomials over GF(2), modulo one, their bits reflected (the highest power is bit 0). */
#pragma once

#include <stdint.h>

struct polynomial {
	uint64_t top;  /* the bit of x^0 */
	uint64_t bits; /* without its highest power, which is one more than there are bits */
};

uint64_t polynomial_multiply(const struct polynomial *modulus, uint64_t a, uint64_t b);
uint64_t polynomial_power(const struct polynomial *modulus, int64_t n); /* x^n */
