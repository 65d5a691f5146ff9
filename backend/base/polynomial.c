/* SPDX-License-Identifier: MIT */
/* See polynomial.h. */
#include "base/polynomial.h"

static uint64_t times_x(const struct polynomial *modulus, uint64_t a)
{
	return (a >> 1) ^ (a & 1 ? modulus->bits : 0);
}

uint64_t polynomial_multiply(const struct polynomial *modulus, uint64_t a, uint64_t b)
{
	uint64_t product = 0;
	for (uint64_t bit = modulus->top; bit; bit >>= 1) {
		if (a & bit)
			product ^= b;
		b = times_x(modulus, b);
	}
	return product;
}

uint64_t polynomial_power(const struct polynomial *modulus, int64_t n)
{
	uint64_t product = modulus->top, power = times_x(modulus, modulus->top);
	for (; n > 0; n >>= 1) {
		if (n & 1)
			product = polynomial_multiply(modulus, product, power);
		power = polynomial_multiply(modulus, power, power);
	}
	return product;
}
