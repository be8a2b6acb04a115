/* Included twice by sha2.c, for words of 32 and of 64 bits: WORD, NAME, EXPORT, ROUNDS, PAD (bytes of the length field). */

#define BLOCK (16 * sizeof(WORD))

struct NAME(state) {
    WORD h[8];
    uint64_t length; /* bytes so far; at most 2^61 are supported */
    uint8_t block[BLOCK];
};

static WORD NAME(rotate)(WORD x, int n)
{
    return x >> n | x << (8 * (int)sizeof x - n);
}

static WORD NAME(mix)(WORD x, const int *n)
{
    return NAME(rotate)(x, n[0]) ^ NAME(rotate)(x, n[1]) ^ NAME(rotate)(x, n[2]);
}

static WORD NAME(spread)(WORD x, const int *n)
{
    return NAME(rotate)(x, n[0]) ^ NAME(rotate)(x, n[1]) ^ x >> n[2];
}

static void NAME(compress)(struct NAME(state) * s)
{
    const int *n = NAME(rotations);
    WORD w[ROUNDS], v[8];
    memset(w, 0, sizeof w);
    for (size_t i = 0; i < BLOCK; i++)
        w[i / sizeof(WORD)] = w[i / sizeof(WORD)] << 8 | s->block[i];
    for (int i = 16; i < ROUNDS; i++)
        w[i] = w[i - 16] + NAME(spread)(w[i - 15], n + 6) + w[i - 7] + NAME(spread)(w[i - 2], n + 9);
    memcpy(v, s->h, sizeof v);
    for (int i = 0; i < ROUNDS; i++) {
        WORD k = (WORD)(cube_roots[i] >> (64 - 8 * sizeof(WORD)));
        WORD t1 = v[7] + NAME(mix)(v[4], n + 3) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k + w[i];
        WORD t2 = NAME(mix)(v[0], n) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        s->h[i] += v[i];
}

static struct NAME(state) * NAME(new)(const uint64_t *h, int shift)
{
    struct NAME(state) *s = calloc(1, sizeof *s);
    for (int i = 0; s && i < 8; i++)
        s->h[i] = (WORD)(h[i] >> shift);
    return s;
}

struct NAME(state) * EXPORT(copy)(const struct NAME(state) * s)
{
    struct NAME(state) *copy = malloc(sizeof *copy);
    if (copy)
        *copy = *s;
    return copy;
}

void EXPORT(free)(struct NAME(state) * s)
{
    free(s);
}

uint8_t EXPORT(update)(struct NAME(state) * s, const uint8_t *data, uint32_t size)
{
    while (size--) {
        s->block[s->length++ % BLOCK] = *data++;
        if (s->length % BLOCK == 0)
            NAME(compress)(s);
    }
    return 0;
}

void EXPORT(digest)(const struct NAME(state) * from, uint8_t *out)
{
    struct NAME(state) s = *from;
    uint64_t bits = s.length * 8;
    uint8_t byte = 0x80;
    do {
        EXPORT(update)(&s, &byte, 1);
        byte = 0;
    } while (s.length % BLOCK != BLOCK - PAD);
    for (int i = 0; i < PAD; i++) {
        byte = i < PAD - 8 ? 0 : (uint8_t)(bits >> (8 * (PAD - 1 - i)));
        EXPORT(update)(&s, &byte, 1);
    }
    for (size_t i = 0; i < sizeof s.h; i++)
        out[i] = (uint8_t)(s.h[i / sizeof(WORD)] >> (8 * (sizeof(WORD) - 1 - i % sizeof(WORD))));
}

#undef BLOCK
