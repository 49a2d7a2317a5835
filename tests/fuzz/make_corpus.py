#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets gguf, safetensors, json_config and replay: small valid inputs for a fuzzer to bend.

    python3 tests/fuzz/make_corpus.py
"""
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def put(target, name, data):
    folder = os.path.join(HERE, 'corpus', target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), 'wb') as f:
        f.write(data)


def string(text):
    return struct.pack('<Q', len(text)) + text.encode()


def gguf(version, keys, tensors, alignment=32):
    """keys: (name, type id, packed value); tensors: (name, ne, type id, bytes)."""
    head = b'GGUF' + struct.pack('<IQQ', version, len(tensors), len(keys))
    head += b''.join(string(name) + struct.pack('<I', kind) + value for name, kind, value in keys)
    body = b''
    for name, ne, kind, data in tensors:
        head += string(name) + struct.pack('<I%dQIQ' % len(ne), len(ne), *ne, kind, len(body))
        body += data + bytes(-len(data) % alignment)
    return head + bytes(-len(head) % alignment) + body


def replay(op, inputs, files, attributes=None, pages=0, rows=2):
    """What `busbar verify --bisect --save` writes, in one file: case.json, then each file with its name and length."""
    length = 64 if pages else 0
    words = [rows, 1, 1] + [0] * 13 + [7] * rows + list(range(rows)) + [0] * rows + [rows - 1] + [0 if pages else -1]
    case = {'busbar reproduction': 1, 'op': op, 'node': 'layer.0.' + op, 'name': op, 'attributes': attributes or {}, 'binding': [rows, 1, 1, length],
            'cache': 'f32', 'pages': pages, 'filled': [0], 'rounding': {'activation': 'i16', 'accumulate': 'f32', 'transcendental_ulp': 4.0,
                                                                        'flushes_denormals': False},
            'real': 'f32', 'row': 'cpu.' + op, 'chip': 'cpu', 'model': '0123', 'why': 'far off', 'layout': [rows, 1, 1, 1], 'record': words,
            'inputs': inputs, 'expected': [{'file': 'expected0.npy', 'extents': [1]}], 'got': [{'file': 'expected0.npy', 'extents': [1]}]}
    files = dict(files, **{'expected0.npy': npy([1.0])})
    return json.dumps(case).encode() + b'\0' + b''.join(name.encode() + b'\0' + struct.pack('<I', len(data)) + data for name, data in files.items())


def npy(numbers):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }" % len(numbers)
    header += ' ' * (-(len(header) + 11) % 64) + '\n'
    return b'\x93NUMPY\1\0' + struct.pack('<H', len(header)) + header.encode() + struct.pack('<%dd' % len(numbers), *numbers)


def replays():
    def values(name, shape, extents, kind='real'):
        return {'is': 'values', 'name': name, 'kind': kind, 'role': 'none', 'shape': shape, 'extents': extents, 'file': name + '.npy'}
    weight = {'is': 'weight', 'name': 'w', 'kind': 'real', 'role': 'none', 'shape': [3, 32], 'encoding': 'q8_0', 'extents': [3, 32], 'file': 'w.bin'}
    steps = {name: {'is': 'step', 'name': name, 'kind': 'index', 'role': 'none', 'shape': shape}
             for name, shape in (('positions', ['rows']), ('sequences', ['rows']), ('token_ids', ['rows']), ('block_table', ['sequences', 'pages']))}
    steps = {name: dict(s, shape=[{'rows': '[rows]', 'sequences': '[sequences]', 'pages': '[pages]'}[d] for d in s['shape']]) for name, s in steps.items()}
    state = {'is': 'state', 'name': 'keys', 'kind': 'state', 'role': 'key', 'shape': [1, 2], 'extents': [1, 64, 1, 2], 'file': 'keys.npy'}
    yield 'norm', replay('rms_norm', [values('x', ['[rows]', 4], [2, 4]), values('w', [4], [4])],
                         {'x.npy': npy([1.0] * 8), 'w.npy': npy([1.0] * 4)}, {'epsilon': 1e-5})
    yield 'product', replay('matmul', [values('x', ['[rows]', 32], [2, 32]), weight], {'x.npy': npy([0.5] * 64), 'w.bin': bytes(range(102))})
    yield 'gather', replay('gather_rows', [dict(weight, shape=[8, 32], extents=[8, 32]), steps['token_ids']], {'w.bin': bytes(272)})
    yield 'append', replay('cache_append', [state, values('x', ['[rows]', 1, 2], [2, 1, 2]), steps['positions'], steps['sequences'], steps['block_table']],
                           {'keys.npy': npy([0.0] * 128), 'x.npy': npy([1.0] * 4)}, pages=1)
    yield 'transpose', replay('transpose', [values('x', ['[rows]', 4], [2, 4])], {'x.npy': npy([1.0] * 8)}, {'order': [1, 0]})
    yield 'slice', replay('slice', [values('x', ['[rows]', 4], [2, 4])], {'x.npy': npy([1.0] * 8)}, {'begin': 1, 'end': 3, 'step': 1})


def main():
    for name, data in replays():
        put('replay', name, data)
    keys = [('general.architecture', 8, string('llama')), ('general.alignment', 4, struct.pack('<I', 32)), ('a.u8', 0, b'\7'), ('a.i8', 1, b'\xf9'),
            ('a.u16', 2, b'\1\2'), ('a.i16', 3, b'\1\2'), ('a.i32', 5, b'\1\2\3\4'), ('a.f32', 6, struct.pack('<f', 1.5)), ('a.bool', 7, b'\1'),
            ('a.u64', 10, struct.pack('<Q', 9)), ('a.i64', 11, struct.pack('<q', -9)), ('a.f64', 12, struct.pack('<d', 2.5)),
            ('a.strings', 9, struct.pack('<IQ', 8, 2) + string('a') + string('')), ('a.floats', 9, struct.pack('<IQff', 6, 2, 1, 2)),
            ('a.nested', 9, struct.pack('<IQ', 9, 2) + struct.pack('<IQ', 9, 0) + struct.pack('<IQBB', 7, 2, 0, 1))]
    blocks = {0: 4, 1: 2, 30: 2, 2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 20: 18, 39: 17, 10: 84, 11: 110, 12: 144, 13: 176, 14: 210, 23: 136}
    width = {kind: 1 if size <= 4 else 32 if size <= 34 else 256 for kind, size in blocks.items()}
    tensors = [('t%d.weight' % kind, [width[kind], 2], kind, bytes((37 * k + 11) % 256 for k in range(2 * size))) for kind, size in blocks.items()]
    put('gguf', 'keys', gguf(3, keys, []))
    put('gguf', 'tensors', gguf(3, keys[:2], tensors))
    put('gguf', 'version2', gguf(2, keys[:1], tensors[:1] + [('scalar', [], 0, b'\0\0\0\0'), ('empty', [0, 4], 1, b'')]))
    put('gguf', 'aligned64', gguf(3, [('general.alignment', 4, struct.pack('<I', 64))], tensors[:2], 64))
    put('gguf', 'split', gguf(3, [('split.no', 2, b'\0\0'), ('split.count', 2, b'\2\0'), ('split.tensors.count', 5, b'\2\0\0\0')], tensors[:1]))

    header = {'__metadata__': {'format': 'pt'}, 'a.weight': {'dtype': 'F32', 'shape': [1, 2], 'data_offsets': [0, 8]},
              'b': {'dtype': 'BF16', 'shape': [], 'data_offsets': [8, 10]}, 'c': {'dtype': 'F16', 'shape': [0, 3], 'data_offsets': [10, 10]}}
    text = json.dumps(header).encode()
    put('safetensors', 'three', struct.pack('<Q', len(text)) + text + bytes(10))
    put('safetensors', 'none', struct.pack('<Q', 8) + b'{}      ')

    config = {'model_type': 'llama', 'architectures': ['LlamaForCausalLM'], 'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 2,
              'num_attention_heads': 4, 'num_key_value_heads': 2, 'vocab_size': 256, 'max_position_embeddings': 128, 'rms_norm_eps': 1e-5,
              'hidden_act': 'silu', 'tie_word_embeddings': False, 'head_dim': None}
    rope = {'rope_type': 'yarn', 'rope_theta': 1e4, 'factor': 4.0, 'original_max_position_embeddings': 32, 'beta_fast': 32.0}
    put('json_config', 'config_new', json.dumps(dict(config, rope_parameters=rope)).encode())
    put('json_config', 'config_old', json.dumps(dict(config, model_type='qwen2', rope_theta=1e6, rope_scaling={'type': 'linear', 'factor': 2.0},
                                                     sliding_window=8, use_sliding_window=True, max_window_layers=1)).encode())
    bpe = {'version': '1.0', 'added_tokens': [{'id': 5, 'content': '<|end|>', 'special': True, 'lstrip': False, 'rstrip': False,
                                               'normalized': False, 'single_word': False}],
           'normalizer': {'type': 'NFC'}, 'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [
               {'type': 'Split', 'pattern': {'Regex': '\\p{N}{1,3}'}, 'behavior': 'Isolated', 'invert': False},
               {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': False}]},
           'post_processor': None, 'decoder': {'type': 'ByteLevel'},
           'model': {'type': 'BPE', 'vocab': {'a': 0, 'b': 1, 'ab': 2, '\u0120': 3, '\u0120a': 4}, 'merges': ['a b', '\u0120 a'], 'unk_token': None}}
    put('json_config', 'tokenizer_bpe', json.dumps(bpe).encode())
    pieces = {'type': 'BPE', 'vocab': {'<unk>': 0, '<0x0A>': 1, '\u2581': 2, 'a': 3, '\u2581a': 4}, 'merges': [['\u2581', 'a']], 'unk_token': '<unk>',
              'fuse_unk': True, 'byte_fallback': True}
    put('json_config', 'tokenizer_pieces', json.dumps(dict(bpe, model=pieces, pre_tokenizer=None, added_tokens=[], normalizer={
        'type': 'Sequence', 'normalizers': [{'type': 'Prepend', 'prepend': '\u2581'}, {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '\u2581'}]},
        decoder={'type': 'Sequence', 'decoders': [{'type': 'ByteFallback'}, {'type': 'Fuse'}]})).encode())
    put('json_config', 'numbers', b'[0, -0, 1e3, 1.5e-7, 18446744073709551615, -9223372036854775808, true, null, "\\u00e9\\ud83d\\ude00"]')


if __name__ == '__main__':
    main()
