#!/usr/bin/env python3
"""Makes tests/goldens/blocks.json: what the Python package `gguf` decodes random blocks of every encoding to.

    venv/bin/pip install gguf==0.19.0 numpy==2.4.6
    venv/bin/python tests/goldens/make_blocks.py

The blocks are not stored: `generator` in the file says how to make them again. Outputs are stored as the SHA-256 of their f32
bytes (little-endian, every NaN as 7fc00000) and the bits of the first block's first values. src/dtype/encoding_test.cc reads it.
"""
import hashlib
import importlib.metadata
import json
import os

import gguf
import numpy as np
from gguf.quants import dequantize

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'blocks.json')

# encoding: byte offsets of the halves in a block (of the power of two, for mxfp4)
SCALES = {
    'f32': [], 'f16': [], 'bf16': [], 'q4_0': [0], 'q4_1': [0, 2], 'q5_0': [0], 'q5_1': [0, 2], 'q8_0': [0], 'q2_k': [80, 82],
    'q3_k': [108], 'q4_k': [0, 2], 'q5_k': [0, 2], 'q6_k': [208], 'iq4_nl': [0], 'iq4_xs': [0], 'mxfp4': [0],
}
# Zeros, smallest and largest subnormals, smallest normals, one, largest, infinities, quiet and signalling NaNs.
HALVES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x8400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0x7C01]
POWERS = [0, 1, 2, 3, 100, 126, 127, 128, 129, 200, 250, 251, 252, 253, 254, 255]


def random_bytes(seed, count):
    """Output i of splitmix64, little-endian, from a state that starts at `seed`."""
    with np.errstate(over='ignore'):
        z = np.uint64(seed) + np.arange(1, count // 8 + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).astype('<u8').view(np.uint8)[:count].copy()


def make_blocks(name, seed, count, size, extreme):
    blocks = random_bytes(seed, count * size).reshape(count, size)
    if extreme:
        for n, at in enumerate(SCALES[name]):
            # Every pair of the two lists' entries occurs: the first runs fast, the second slowly.
            index = (np.arange(count) // 16 ** n) % 16
            if name == 'mxfp4':
                blocks[:, at] = np.array(POWERS, dtype=np.uint8)[index]
            else:
                blocks[:, at:at + 2] = np.array(HALVES, dtype='<u2')[index].view(np.uint8).reshape(count, 2)
    return blocks


def decode(name, blocks):
    kind = gguf.GGMLQuantizationType[name.upper()]
    with np.errstate(all='ignore'):
        out = np.array(dequantize(blocks.reshape(-1) if name in ('f32', 'f16') else blocks, kind), dtype=np.float32)
    out = out.reshape(len(blocks), -1)
    if name == 'mxfp4':
        out[blocks[:, 0] == 255] = np.nan  # OCP MX: scale code 255 is NaN; the package reads it as 2^127
    return out


def main():
    cases = []
    for number, name in enumerate(SCALES):
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]]
        for extreme in (False, True):
            if extreme and not SCALES[name]:
                continue
            count = 512 if extreme else 10000 if block <= 32 else 2000
            seed = 1000 * (number + 1) + extreme
            blocks = make_blocks(name, seed, count, size, extreme)
            out = decode(name, blocks)
            assert out.shape == (count, block), (name, out.shape)
            bits = out.view(np.uint32).copy()
            bits[np.isnan(out)] = 0x7FC00000
            cases.append({'encoding': name, 'kind': 'extreme' if extreme else 'random', 'seed': seed, 'blocks': count,
                          'block': block, 'block_bytes': size, 'scale_offsets': SCALES[name], 'nans': int(np.isnan(out).sum()),
                          'infinities': int(np.isinf(out).sum()), 'sha256': hashlib.sha256(bits.astype('<u4').tobytes()).hexdigest(),
                          'first_bits': ['%08x' % b for b in bits.reshape(-1)[:8]]})
    # The plain 16-bit elements once more: every code in order.
    for name in ('f16', 'bf16'):
        blocks = np.arange(65536, dtype='<u2').view(np.uint8).reshape(65536, 2)
        out = decode(name, blocks)
        bits = out.view(np.uint32).copy()
        bits[np.isnan(out)] = 0x7FC00000
        cases.append({'encoding': name, 'kind': 'every code', 'seed': 0, 'blocks': 65536, 'block': 1, 'block_bytes': 2, 'scale_offsets': [],
                      'nans': int(np.isnan(out).sum()), 'infinities': int(np.isinf(out).sum()),
                      'sha256': hashlib.sha256(bits.astype('<u4').tobytes()).hexdigest(),
                      'first_bits': ['%08x' % b for b in bits.reshape(-1)[:8]]})
    with open(OUT, 'w') as f:
        json.dump({
            'made_by': {'script': 'tests/goldens/make_blocks.py', 'gguf': importlib.metadata.version('gguf'), 'numpy': np.__version__},
            'generator': 'splitmix64: state starts at seed; per output state += 9e3779b97f4a7c15, then the usual two multiplies; outputs little-endian, '
                         'cut to blocks * block_bytes. kind extreme: in block b the n-th scale is halves[b / 16^n mod 16] (powers for mxfp4). '
                         'kind every code: 0..65535. NaN outputs count as 7fc00000; mxfp4 with power 255 is NaN',
            'halves': ['%04x' % h for h in HALVES], 'powers': POWERS, 'cases': cases}, f, indent=1)
        f.write('\n')
    print('%d cases, %d bytes' % (len(cases), os.path.getsize(OUT)))


if __name__ == '__main__':
    main()
