/* SPDX-License-Identifier: MIT */
/* See whole.h. */
#include "whole.h"

#include <stdlib.h>
#include <string.h>

static int64_t end_of(const struct piece *piece)
{
	return piece->at + piece->len;
}

static bool is_next(const struct piece *piece)
{
	return piece->next && piece->next->at == end_of(piece);
}

struct piece *whole_begin(struct whole *whole, int64_t at, int64_t len)
{
	struct piece **place = &whole->first;
	if (whole->state != WHOLE_OPEN)
		return NULL;
	while (*place && end_of(*place) <= at)
		place = &(*place)->next;
	bool is_twice = *place && (*place)->at < at + len;
	struct piece *piece =
		is_twice || whole->n_pieces == WHOLE_PIECES_MAX ? NULL : calloc(1, sizeof(*piece));
	if (!piece) {
		whole_give_up(whole);
		return NULL;
	}
	*piece = (struct piece){.next = *place, .at = at, .len = len};
	*place = piece;
	whole->n_pieces++;
	return piece;
}

void piece_count(struct piece *piece, enum checksum_kind kind, const void *bytes, size_t n)
{
	for (int i = CHECKSUM_NONE + 1; i < CHECKSUM_CRC_MAX; i++)
		if (kind == CHECKSUM_NONE || kind == (enum checksum_kind)i)
			piece->crc[i] = checksum_add((enum checksum_kind)i, piece->crc[i], bytes, n);
}

/* What `piece` and the one behind it come to; of a CRC that was not counted in both it is nothing that anybody looks at. */
static void join_next(struct whole *whole, struct piece *piece)
{
	struct piece *second = piece->next;
	for (int i = CHECKSUM_NONE + 1; i < CHECKSUM_CRC_MAX; i++)
		piece->crc[i] =
			checksum_join((enum checksum_kind)i, piece->crc[i], second->crc[i], second->len);
	piece->len += second->len;
	piece->next = second->next;
	whole->n_pieces--;
	free(second);
}

static void judge(struct whole *whole)
{
	const struct piece *all = whole->first;
	enum checksum_kind kind = whole->told.kind;
	if (whole->state != WHOLE_OPEN || kind == CHECKSUM_NONE || !all || !all->is_done ||
	    all->len != whole->size_bytes)
		return;
	(void)checksum_text(kind, all->crc[kind], whole->came);
	whole->state = strcmp(whole->came, whole->told.text) == 0 ? WHOLE_RIGHT : WHOLE_WRONG;
}

void whole_end(struct whole *whole, struct piece *piece, int64_t have)
{
	struct piece **place = &whole->first;
	piece->len = have;
	piece->is_done = true;
	while (*place != piece)
		place = &(*place)->next;
	if (have == 0) {
		*place = piece->next;
		whole->n_pieces--;
		free(piece);
	}
	for (piece = whole->first; piece; piece = piece->next)
		while (piece->is_done && is_next(piece) && piece->next->is_done)
			join_next(whole, piece);
	judge(whole);
}

void whole_tell(struct whole *whole, const struct checksum *told)
{
	if (told->kind == CHECKSUM_NONE)
		return;
	bool is_other = whole->told.kind != CHECKSUM_NONE &&
			(whole->told.kind != told->kind || strcmp(whole->told.text, told->text) != 0);
	if (told->kind >= CHECKSUM_CRC_MAX || is_other)
		whole_give_up(whole);
	else
		whole->told = *told;
	judge(whole);
}

void whole_give_up(struct whole *whole)
{
	if (whole->state == WHOLE_OPEN)
		whole->state = WHOLE_GIVEN_UP;
}

bool whole_is_in_order(const struct whole *whole)
{
	return whole->first && whole->first->at == 0 && is_next(whole->first);
}

bool whole_is_pending(const struct whole *whole, bool is_awaited)
{
	const struct piece *piece = whole->first;
	if (whole->state != WHOLE_OPEN || !piece || piece->at > 0 ||
	    (whole->told.kind == CHECKSUM_NONE && !is_awaited))
		return false;
	while (is_next(piece))
		piece = piece->next;
	return end_of(piece) == whole->size_bytes;
}

void whole_release(struct whole *whole)
{
	while (whole->first) {
		struct piece *piece = whole->first;
		whole->first = piece->next;
		free(piece);
	}
}
