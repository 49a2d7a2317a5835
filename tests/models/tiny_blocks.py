"""Quantised blocks for make_tiny.py: rows of values to stored blocks, random valid blocks, and what blocks mean.

Plain Python. Doubles hold every product here exactly and every sum to one final rounding, so `decode` followed by the store to
f32 gives the bits that f32 arithmetic gives. Layouts: GGUF (formats.md 4.4 and 4.5).
"""
import struct

MASK = (1 << 64) - 1


def splitmix64(state, count):
    """The next `count` outputs of splitmix64 from `state`."""
    out = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(z ^ (z >> 31))
    return out


# name: GGUF type id, elements per block, bytes per block
TYPES = {
    'f32': (0, 1, 4), 'f16': (1, 1, 2), 'bf16': (30, 1, 2),
    'q4_0': (2, 32, 18), 'q4_1': (3, 32, 20), 'q5_0': (6, 32, 22), 'q5_1': (7, 32, 24), 'q8_0': (8, 32, 34),
    'iq4_nl': (20, 32, 18), 'mxfp4': (39, 32, 17),
    'q2_k': (10, 256, 84), 'q3_k': (11, 256, 110), 'q4_k': (12, 256, 144), 'q5_k': (13, 256, 176), 'q6_k': (14, 256, 210),
    'iq4_xs': (23, 256, 136),
}

IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
E2M1_DOUBLED = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def half(x):
    return struct.pack('<e', x)


def unhalf(b, at):
    return struct.unpack_from('<e', b, at)[0]


# --- quantise: plain round to nearest; good enough to be a model, deterministic everywhere -----------------------------------

def clamp(q, low, high):
    return low if q < low else high if q > high else q


def pack_nibbles(q):
    return bytes((q[i] & 15) | (q[i + 16] & 15) << 4 for i in range(16))


def pack_fifth(q):
    return struct.pack('<I', sum((q[i] >> 4) << i for i in range(32)))


def quantise_symmetric(x, levels):
    biggest = max(x, key=abs)
    d = half(biggest / -levels)
    scale = unhalf(d, 0)
    q = [clamp(int(v / scale + levels + 0.5), 0, 2 * levels - 1) if scale else levels for v in x]
    return d, q


def quantise_affine(x, steps):
    d, m = half((max(x) - min(x)) / steps), half(min(x))
    scale, low = unhalf(d, 0), unhalf(m, 0)
    q = [clamp(int((v - low) / scale + 0.5), 0, steps) if scale else 0 for v in x]
    return d + m, q


def quantise_block(name, x):
    if name == 'q8_0':
        d = half(max(abs(v) for v in x) / 127)
        scale = unhalf(d, 0)
        return d + struct.pack('32b', *[clamp(round(v / scale), -127, 127) if scale else 0 for v in x])
    if name in ('q4_0', 'q5_0'):
        head, q = quantise_symmetric(x, 8 if name == 'q4_0' else 16)
    else:
        head, q = quantise_affine(x, 15 if name == 'q4_1' else 31)
    return head + (pack_fifth(q) if name[1] == '5' else b'') + pack_nibbles(q)


def quantise(name, values):
    return b''.join(quantise_block(name, values[i:i + 32]) for i in range(0, len(values), 32))


# --- random blocks: any code bytes, with scales that give the wanted standard deviation --------------------------------------

# name: offset of d, offset of dmin or None, dmin / d that makes the mean about 0, deviation of a weight for d = 1
RANDOM = {
    'iq4_nl': (0, None, 0, 70.0), 'iq4_xs': (0, None, 0, 1290.0), 'q2_k': (80, 82, 1.5, 13.9), 'q3_k': (108, None, 0, 43.5),
    'q4_k': (0, 2, 7.5, 258.0), 'q5_k': (0, 2, 15.5, 527.0), 'q6_k': (208, None, 0, 1368.0),
}


def random_blocks(name, state, count, deviation):
    size = TYPES[name][2]
    words = (size + 7) // 8 + 1
    out = []
    stream = splitmix64(state, words * count)
    for b in range(count):
        z = stream[words * b:words * (b + 1)]
        block = bytearray(struct.pack('<%dQ' % (words - 1), *z[1:])[:size])
        spread = (192 + (z[0] & 127)) / 256  # scales differ from block to block
        if name == 'mxfp4':
            e = 127
            while 3.0 * 2.0 ** (e - 127) * 1.4 > deviation:
                e -= 1
            block[0] = e + (z[0] & 1)
        else:
            at, min_at, ratio, unit = RANDOM[name]
            d = deviation / unit * spread
            block[at:at + 2] = half(-d if z[0] >> 8 & 1 and min_at is None else d)
            if min_at is not None:
                block[min_at:min_at + 2] = half(d * ratio)
        out.append(bytes(block))
    return b''.join(out)


# --- decode ------------------------------------------------------------------------------------------------------------------

def nibbles(b, at):
    return [v & 15 for v in b[at:at + 16]] + [v >> 4 for v in b[at:at + 16]]


def fifths(b, at):
    word = struct.unpack_from('<I', b, at)[0]
    return [(word >> i & 1) << 4 for i in range(32)]


def scale_min(sc):
    scales = [v & 63 for v in sc[0:4]] + [(sc[j + 4] & 15) | (sc[j - 4] >> 6) << 4 for j in range(4, 8)]
    mins = [v & 63 for v in sc[4:8]] + [(sc[j + 4] >> 4) | (sc[j] >> 6) << 4 for j in range(4, 8)]
    return scales, mins


def planes(qs, plane, bits, mask):
    """Codes of consecutive `plane`-byte runs, each run read once per shift."""
    out = []
    for at in range(0, len(qs), plane):
        for shift in range(0, 8, bits):
            out += [v >> shift & mask for v in qs[at:at + plane]]
    return out


def decode_block(name, b):
    if name == 'q8_0':
        d = unhalf(b, 0)
        return [d * q for q in struct.unpack_from('32b', b, 2)]
    if name == 'q4_0':
        d = unhalf(b, 0)
        return [d * (q - 8) for q in nibbles(b, 2)]
    if name == 'q4_1':
        d, m = unhalf(b, 0), unhalf(b, 2)
        return [d * q + m for q in nibbles(b, 4)]
    if name == 'q5_0':
        d = unhalf(b, 0)
        return [d * ((q | h) - 16) for q, h in zip(nibbles(b, 6), fifths(b, 2))]
    if name == 'q5_1':
        d, m = unhalf(b, 0), unhalf(b, 2)
        return [d * (q | h) + m for q, h in zip(nibbles(b, 8), fifths(b, 4))]
    if name == 'iq4_nl':
        d = unhalf(b, 0)
        return [d * IQ4[q] for q in nibbles(b, 2)]
    if name == 'mxfp4':
        d = 2.0 ** (b[0] - 128)
        return [d * E2M1_DOUBLED[q] for q in nibbles(b, 1)]
    if name == 'iq4_xs':
        d, high = unhalf(b, 0), struct.unpack_from('<H', b, 2)[0]
        out = []
        for j in range(8):
            s = d * (((b[4 + j // 2] >> 4 * (j % 2) & 15) | (high >> 2 * j & 3) << 4) - 32)
            out += [s * IQ4[q] for q in nibbles(b, 8 + 16 * j)]
        return out
    return decode_k(name, b)


def decode_k(name, b):
    if name == 'q2_k':
        q, d, dmin = planes(b[16:80], 32, 2, 3), unhalf(b, 80), unhalf(b, 82)
        scales, mins = [d * (s & 15) for s in b[:16]], [dmin * (s >> 4) for s in b[:16]]
        return [scales[i >> 4] * q[i] - mins[i >> 4] for i in range(256)]
    if name == 'q3_k':
        q, keep, sc, d = planes(b[32:96], 32, 2, 3), planes(b[0:32], 32, 1, 1), b[96:108], unhalf(b, 108)
        scales = [d * (((sc[j % 8] >> 4 * (j // 8) & 15) | (sc[8 + j % 4] >> 2 * (j // 4) & 3) << 4) - 32) for j in range(16)]
        return [scales[i >> 4] * (q[i] - (0 if keep[i] else 4)) for i in range(256)]
    if name == 'q6_k':
        low, high, d = planes(b[0:128], 64, 4, 15), planes(b[128:192], 32, 2, 3), unhalf(b, 208)
        scales = [d * s for s in struct.unpack_from('16b', b, 192)]
        return [scales[i >> 4] * ((low[i] | high[i] << 4) - 32) for i in range(256)]
    d, dmin = unhalf(b, 0), unhalf(b, 2)
    scales, mins = scale_min(b[4:16])
    scales, mins = [d * s for s in scales], [dmin * m for m in mins]
    if name == 'q4_k':
        q = planes(b[16:144], 32, 4, 15)
    else:
        q = [low | high << 4 for low, high in zip(planes(b[48:176], 32, 4, 15), planes(b[16:48], 32, 1, 1))]
    return [scales[i >> 5] * q[i] - mins[i >> 5] for i in range(256)]


def decode(name, data):
    size = TYPES[name][2]
    out = []
    for at in range(0, len(data), size):
        out += decode_block(name, data[at:at + size])
    return out
