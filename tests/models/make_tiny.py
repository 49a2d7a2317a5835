#!/usr/bin/env python3
"""Writes tiny random checkpoints of every family, rope kind, spelling and weight encoding that Busbar reads.

    python3 tests/models/make_tiny.py OUT_DIR [--check | --write-sums] [--only CASE]

For each case OUT_DIR/CASE is a Hugging Face folder (config.json, generation_config.json, safetensors), and for some
OUT_DIR/CASE.gguf holds the same weights. Where the GGUF is quantised, the folder holds what its blocks decode to, in f32.
Standard library only, no libm in the weights: the same bytes on every machine; tiny.sha256 says which (--check).
"""
import argparse
import array
import hashlib
import json
import math
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_blocks  # noqa: E402
from tiny_blocks import TYPES, splitmix64  # noqa: E402

SUMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'tiny.sha256')


# --- weights -----------------------------------------------------------------------------------------------------------------

def hash_name(text):
    h = 0xCBF29CE484222325  # FNV-1a
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & tiny_blocks.MASK
    return h


def bell(state, count, numerator, denominator_squared):
    """`count` bell-shaped values of mean 0 and deviation about numerator / sqrt(denominator_squared), all exact in f32.

    Each is the sum of the four 16-bit quarters of a hash (deviation 37837), times a small whole number over a power of two: at most
    18 + 6 bits."""
    e = 0
    while True:
        c = math.isqrt((numerator * numerator << 2 * e) // (37837 * 37837 * denominator_squared))
        if c >= 32:
            break
        e += 1
    scale = c / (1 << e)
    return [((z & 0xFFFF) + (z >> 16 & 0xFFFF) + (z >> 32 & 0xFFFF) + (z >> 48) - 131070) * scale for z in splitmix64(state, count)]


def round_to(values, dtype):
    """What the values become when stored as `dtype`."""
    if dtype == 'f32':
        return values
    return from_bytes(to_bytes(values, dtype), dtype)


def to_bytes(values, dtype):
    if dtype == 'f16':
        return struct.pack('<%de' % len(values), *values)
    words = array.array('f', values)
    if sys.byteorder == 'big':
        words.byteswap()
    if dtype == 'f32':
        return words.tobytes()
    bits = array.array('I', words.tobytes())
    return struct.pack('<%dH' % len(bits), *[(b + 0x7FFF + (b >> 16 & 1)) >> 16 for b in bits])


def from_bytes(data, dtype):
    if dtype == 'f16':
        return list(struct.unpack('<%de' % (len(data) // 2), data))
    return list(struct.unpack('<%df' % (len(data) // 2), b''.join(b'\0\0' + data[i:i + 2] for i in range(0, len(data), 2))))


class Tensor:
    """A weight: HF name, GGUF name, shape, values, and the stored blocks if it is quantised."""

    def __init__(self, name, gguf_name, shape):
        self.name, self.gguf_name, self.shape = name, gguf_name, shape
        self.values, self.encoding, self.blocks, self.heads = None, None, None, 0


def make_tensor(case, name, gguf_name, shape, kind, encoding, heads=0):
    t = Tensor(name, gguf_name, shape)
    t.heads = heads
    count = math.prod(shape)
    state = hash_name(case['weights'] + '/' + name)
    # kind: numerator and squared denominator of the deviation
    numerator, denominator = {
        'embed': (4, shape[-1]) if case['tied'] else (1, 1), 'head': (4, shape[-1]), 'sharp': (3, 2 * shape[-1]),
        'matrix': (1, shape[-1]), 'bias': (3, 100), 'norm': (1, 25)}[kind]
    if len(shape) == 1:
        encoding = case['dtype']
    t.encoding = encoding
    if encoding in ('f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1', 'q5_0', 'q5_1'):
        values = bell(state, count, numerator, denominator)
        if kind == 'norm':
            values = [max(0.25, 1 + v) for v in values]
        if encoding in ('f32', 'f16', 'bf16'):
            t.values = round_to(values, encoding)
            return t
        t.blocks = tiny_blocks.quantise(encoding, values)
    else:
        deviation = numerator / math.sqrt(denominator)
        t.blocks = tiny_blocks.random_blocks(encoding, state, count // TYPES[encoding][1], deviation)
    t.values = tiny_blocks.decode(encoding, t.blocks)
    return t


def make_weights(case):
    c = case['config']
    hidden, inter, heads, kv_heads = c['hidden_size'], c['intermediate_size'], c['num_attention_heads'], c['num_key_value_heads']
    head_dim = c.get('head_dim') or hidden // heads
    q_bias = c.get('attention_bias', False) or c['model_type'] == 'qwen2'
    o_bias, mlp_bias = c.get('attention_bias', False), c.get('mlp_bias', False)
    encodings = case['encodings']
    tensors = []
    matrices = 0

    def add(name, gguf_name, shape, kind, bias=False, heads=0):
        nonlocal matrices
        encoding = encodings[matrices % len(encodings)]
        matrices += len(shape) > 1
        tensors.append(make_tensor(case, name + '.weight', gguf_name + '.weight', shape, kind, encoding, heads))
        if bias:
            tensors.append(make_tensor(case, name + '.bias', gguf_name + '.bias', shape[:1], 'bias', 'f32', heads))

    add('model.embed_tokens', 'token_embd', [c['vocab_size'], hidden], 'embed')
    for n in range(c['num_hidden_layers']):
        hf, g = 'model.layers.%d.' % n, 'blk.%d.' % n
        add(hf + 'input_layernorm', g + 'attn_norm', [hidden], 'norm')
        add(hf + 'self_attn.q_proj', g + 'attn_q', [heads * head_dim, hidden], 'sharp', q_bias, heads)
        add(hf + 'self_attn.k_proj', g + 'attn_k', [kv_heads * head_dim, hidden], 'sharp', q_bias, kv_heads)
        add(hf + 'self_attn.v_proj', g + 'attn_v', [kv_heads * head_dim, hidden], 'matrix', q_bias)
        add(hf + 'self_attn.o_proj', g + 'attn_output', [hidden, heads * head_dim], 'matrix', o_bias)
        if c['model_type'] == 'qwen3':
            add(hf + 'self_attn.q_norm', g + 'attn_q_norm', [head_dim], 'norm')
            add(hf + 'self_attn.k_norm', g + 'attn_k_norm', [head_dim], 'norm')
        add(hf + 'post_attention_layernorm', g + 'ffn_norm', [hidden], 'norm')
        add(hf + 'mlp.gate_proj', g + 'ffn_gate', [inter, hidden], 'matrix', mlp_bias)
        add(hf + 'mlp.up_proj', g + 'ffn_up', [inter, hidden], 'matrix', mlp_bias)
        add(hf + 'mlp.down_proj', g + 'ffn_down', [hidden, inter], 'matrix', mlp_bias)
    add('model.norm', 'output_norm', [hidden], 'norm')
    if not case['tied']:
        add('lm_head', 'output', [c['vocab_size'], hidden], 'head')
    return tensors


# --- Hugging Face folder -----------------------------------------------------------------------------------------------------

HF_DTYPES = {'f32': ('F32', 'float32'), 'f16': ('F16', 'float16'), 'bf16': ('BF16', 'bfloat16')}


def write_json(path, value):
    with open(path, 'w') as f:
        json.dump(value, f, indent=2)
        f.write('\n')


def write_safetensors(path, tensors, dtype):
    header, data = {'__metadata__': {'format': 'pt'}}, []
    at = 0
    for t in tensors:
        raw = to_bytes(t.values, dtype)
        header[t.name] = {'dtype': HF_DTYPES[dtype][0], 'shape': t.shape, 'data_offsets': [at, at + len(raw)]}
        at += len(raw)
        data.append(raw)
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text + b''.join(data))
    return at


def write_folder(folder, case, tensors):
    os.makedirs(folder, exist_ok=True)
    dtype = case['dtype']
    config = dict(case['config'])
    config['dtype' if case['new_spelling'] else 'torch_dtype'] = HF_DTYPES[dtype][1]
    write_json(os.path.join(folder, 'config.json'), config)
    write_json(os.path.join(folder, 'generation_config.json'),
               {'bos_token_id': 1, 'eos_token_id': [2, 3], 'do_sample': False})
    shards = case['shards']
    if shards == 1:
        write_safetensors(os.path.join(folder, 'model.safetensors'), tensors, dtype)
        return
    weight_map, total = {}, 0
    for s in range(shards):
        part = tensors[len(tensors) * s // shards:len(tensors) * (s + 1) // shards]
        name = 'model-%05d-of-%05d.safetensors' % (s + 1, shards)
        total += write_safetensors(os.path.join(folder, name), part, dtype)
        weight_map.update({t.name: name for t in part})
    write_json(os.path.join(folder, 'model.safetensors.index.json'),
               {'metadata': {'total_size': total}, 'weight_map': dict(sorted(weight_map.items()))})


# --- GGUF --------------------------------------------------------------------------------------------------------------------

def gguf_string(text):
    raw = text.encode()
    return struct.pack('<Q', len(raw)) + raw


def gguf_value(key, kind, value):
    ids = {'u16': (2, '<H'), 'u32': (4, '<I'), 'i32': (5, '<i'), 'f32': (6, '<f'), 'bool': (7, '<B')}
    head = gguf_string(key)
    if kind == 'string':
        return head + struct.pack('<I', 8) + gguf_string(value)
    number, form = ids[kind]
    return head + struct.pack('<I', number) + struct.pack(form, value)


def permute(rows, heads):
    """Rows of Q or K from half-split pairs (HF) to neighbours (GGUF, arch llama): row 2i+j of a head is old row j*d/2+i."""
    d = len(rows) // heads
    return [rows[h * d + j * d // 2 + i] for h in range(heads) for i in range(d // 2) for j in (0, 1)]


def gguf_bytes(t, arch):
    """The stored bytes and the type of a tensor in a GGUF file."""
    if len(t.shape) == 1:
        data, encoding = to_bytes(t.values, 'f32'), 'f32'
    elif t.blocks is not None:
        data, encoding = t.blocks, t.encoding
    else:
        data, encoding = to_bytes(t.values, t.encoding), t.encoding
    if arch == 'llama' and t.heads:
        size = len(data) // t.shape[0]
        data = b''.join(permute([data[i * size:(i + 1) * size] for i in range(t.shape[0])], t.heads))
    return data, encoding


def llama3_divisors(rope, head_dim):
    out = []
    for i in range(head_dim // 2):
        wavelength = 2 * math.pi * rope['rope_theta'] ** (2 * i / head_dim)
        original, factor = rope['original_max_position_embeddings'], rope['factor']
        low, high = rope['low_freq_factor'], rope['high_freq_factor']
        if wavelength < original / high:
            out.append(1.0)
        elif wavelength > original / low:
            out.append(float(factor))
        else:
            smooth = (original / wavelength - low) / (high - low)
            out.append(1 / ((1 - smooth) / factor + smooth))
    return out


def gguf_metadata(case, arch):
    c, rope = case['config'], case['rope']
    heads = c['num_attention_heads']
    head_dim = c.get('head_dim') or c['hidden_size'] // heads
    kv = [('general.architecture', 'string', arch), ('general.type', 'string', 'model'), ('general.name', 'string', case['name']),
          ('general.alignment', 'u32', case['alignment']),
          (arch + '.context_length', 'u32', c['max_position_embeddings']), (arch + '.embedding_length', 'u32', c['hidden_size']),
          (arch + '.block_count', 'u32', c['num_hidden_layers']), (arch + '.feed_forward_length', 'u32', c['intermediate_size']),
          (arch + '.vocab_size', 'u32', c['vocab_size']), (arch + '.attention.head_count', 'u32', heads),
          (arch + '.attention.head_count_kv', 'u32', c['num_key_value_heads']),
          (arch + '.attention.layer_norm_rms_epsilon', 'f32', c['rms_norm_eps']),
          (arch + '.rope.freq_base', 'f32', rope['rope_theta'])]
    if arch == 'llama':
        kv.append((arch + '.rope.dimension_count', 'u32', head_dim))
    if head_dim * heads != c['hidden_size']:
        kv += [(arch + '.attention.key_length', 'u32', head_dim), (arch + '.attention.value_length', 'u32', head_dim)]
    if rope['rope_type'] in ('linear', 'yarn'):
        kv += [(arch + '.rope.scaling.type', 'string', rope['rope_type']), (arch + '.rope.scaling.factor', 'f32', rope['factor'])]
    if rope['rope_type'] == 'yarn':
        kv.append((arch + '.rope.scaling.original_context_length', 'u32', rope['original_max_position_embeddings']))
    if c['model_type'] == 'mistral' and c['sliding_window']:
        kv.append((arch + '.attention.sliding_window', 'u32', c['sliding_window']))
    return kv + [('tokenizer.ggml.model', 'string', 'none')]


def write_gguf_file(path, kv, stored, alignment):
    """stored: (name, shape, encoding name, bytes) in file order."""
    head = b'GGUF' + struct.pack('<IQQ', 3, len(stored), len(kv)) + b''.join(gguf_value(*item) for item in kv)
    at, body = 0, []
    for name, shape, encoding, data in stored:
        head += gguf_string(name) + struct.pack('<I', len(shape)) + struct.pack('<%dQ' % len(shape), *reversed(shape))
        head += struct.pack('<IQ', TYPES[encoding][0], at)
        body.append(data + bytes(-len(data) % alignment))
        at += len(body[-1])
    with open(path, 'wb') as f:
        f.write(head + bytes(-len(head) % alignment) + b''.join(body))


def write_gguf(out, case, tensors):
    arch = 'llama' if case['config']['model_type'] in ('llama', 'mistral') else case['config']['model_type']
    stored = []
    for t in tensors:
        data, encoding = gguf_bytes(t, arch)
        stored.append((t.gguf_name, t.shape, encoding, data))
    if case['rope']['rope_type'] == 'llama3':
        divisors = llama3_divisors(case['rope'], case['config'].get('head_dim') or
                                   case['config']['hidden_size'] // case['config']['num_attention_heads'])
        stored.insert(1, ('rope_freqs.weight', [len(divisors)], 'f32', to_bytes(divisors, 'f32')))
    kv = gguf_metadata(case, arch)
    parts = case['parts']
    if parts == 1:
        write_gguf_file(out + '.gguf', kv, stored, case['alignment'])
        return
    for p in range(parts):
        split = [('split.no', 'u16', p), ('split.count', 'u16', parts), ('split.tensors.count', 'i32', len(stored))]
        part = stored[len(stored) * p // parts:len(stored) * (p + 1) // parts]
        write_gguf_file('%s-%05d-of-%05d.gguf' % (out, p + 1, parts), (kv if p == 0 else []) + split, part,
                        case['alignment'] if p == 0 else 32)


# --- cases -------------------------------------------------------------------------------------------------------------------

def make_case(name, model='llama', tied=False, new_spelling=True, dtype='f32', rope=None, gguf=False, encodings=None, shards=1,
              parts=1, alignment=32, weights=None, **overrides):
    classes = {'llama': 'LlamaForCausalLM', 'mistral': 'MistralForCausalLM', 'qwen2': 'Qwen2ForCausalLM', 'qwen3': 'Qwen3ForCausalLM'}
    rope = dict({'rope_type': 'default', 'rope_theta': 10000.0}, **(rope or {}))
    config = {
        'architectures': [classes[model]], 'model_type': model, 'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 2,
        'num_attention_heads': 4, 'num_key_value_heads': 2, 'vocab_size': 256, 'max_position_embeddings': 128,
        'rms_norm_eps': 1e-05 if model in ('llama', 'mistral') else 1e-06, 'hidden_act': 'silu', 'tie_word_embeddings': tied,
        'bos_token_id': 1, 'eos_token_id': 2, 'initializer_range': 0.02, 'use_cache': True, 'attention_dropout': 0.0}
    if model in ('llama', 'mistral'):
        config['pad_token_id'] = None
    if model == 'llama':
        config.update({'attention_bias': False, 'mlp_bias': False, 'pretraining_tp': 1})
    config.update(overrides)
    if new_spelling:
        config['rope_parameters'] = rope
    else:
        config['rope_theta'] = rope['rope_theta']
        scaling = {k: v for k, v in rope.items() if k != 'rope_theta'}
        # Two old spellings of the kind: "type" (the first) and "rope_type" (since llama3).
        if rope['rope_type'] == 'linear':
            scaling['type'] = scaling.pop('rope_type')
        config['rope_scaling'] = None if rope['rope_type'] == 'default' else scaling
    return {'name': name, 'config': config, 'rope': rope, 'tied': tied, 'new_spelling': new_spelling, 'dtype': dtype, 'gguf': gguf,
            'encodings': encodings or [dtype], 'shards': shards, 'parts': parts, 'alignment': alignment, 'weights': weights or name}


def make_cases():
    llama3 = {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
              'original_max_position_embeddings': 64}
    yarn = {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 32}
    wide = {'hidden_size': 256, 'intermediate_size': 256, 'num_hidden_layers': 1, 'num_attention_heads': 4, 'num_key_value_heads': 1,
            'vocab_size': 128}
    cases = [
        make_case('llama', gguf=True, alignment=64),
        make_case('llama_split', gguf=True, parts=3, alignment=64, weights='llama'),
        make_case('llama_tied', tied=True, new_spelling=False, gguf=True, vocab_size=251),
        make_case('llama_bias', gguf=True, attention_bias=True, mlp_bias=True, head_dim=None, vocab_size=128),
        make_case('llama_head_dim', gguf=True, head_dim=24, num_key_value_heads=1),
        make_case('llama_linear', new_spelling=False, gguf=True, rope={'rope_type': 'linear', 'factor': 4.0}, vocab_size=128),
        make_case('llama_llama3', gguf=True, rope=dict(llama3, rope_theta=500000.0)),
        make_case('llama_llama3_old', new_spelling=False, rope=llama3, vocab_size=128),
        make_case('llama_yarn', gguf=True, rope=yarn),
        make_case('llama_yarn_options', new_spelling=False, vocab_size=128,
                  rope=dict(yarn, beta_fast=16.0, beta_slow=2.0, attention_factor=1.25)),
        make_case('llama_dynamic', rope={'rope_type': 'dynamic', 'factor': 2.0}, max_position_embeddings=32, vocab_size=128),
        make_case('llama_bf16', dtype='bf16', gguf=True),
        make_case('llama_f16', dtype='f16', gguf=True),
        make_case('mistral', 'mistral', gguf=True, new_spelling=False, sliding_window=8, head_dim=16),
        make_case('mistral_sharded', 'mistral', sliding_window=None, shards=3, vocab_size=128),
        make_case('qwen2', 'qwen2', gguf=True, use_sliding_window=False, sliding_window=None, max_window_layers=2),
        make_case('qwen2_tied', 'qwen2', tied=True, new_spelling=False, dtype='f16', use_sliding_window=False, sliding_window=8,
                  max_window_layers=0, rope={'rope_theta': 1000000.0}),
        make_case('qwen2_window', 'qwen2', use_sliding_window=True, sliding_window=8, max_window_layers=2, num_hidden_layers=4,
                  vocab_size=128),
        make_case('qwen3', 'qwen3', tied=True, gguf=True, head_dim=32, attention_bias=False, use_sliding_window=False,
                  sliding_window=None, max_window_layers=2),
        make_case('qwen3_untied', 'qwen3', new_spelling=False, dtype='bf16', head_dim=16, attention_bias=False,
                  use_sliding_window=False, sliding_window=None, max_window_layers=2, rope={'rope_theta': 1000000.0}),
    ]
    for encoding in ('q4_0', 'q4_1', 'q5_0', 'q5_1', 'q8_0', 'iq4_nl', 'mxfp4'):
        cases.append(make_case('llama_' + encoding, gguf=True, encodings=[encoding], vocab_size=128))
    # Super-blocks of 256, mixed inside a model as published files mix them; each encoding meets each role.
    k = ['q2_k', 'q3_k', 'q4_k', 'q5_k', 'q6_k', 'iq4_xs']
    cases.append(make_case('llama_k_mix', gguf=True, encodings=k, **wide))
    cases.append(make_case('qwen2_k_mix', 'qwen2', tied=True, gguf=True, encodings=k[4:] + k[:4], **wide))
    cases.append(make_case('qwen3_k_mix', 'qwen3', gguf=True, encodings=k[2:] + k[:2], head_dim=64, attention_bias=False, **wide))
    return cases


# --- command -----------------------------------------------------------------------------------------------------------------

def files_under(folder):
    for base, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(os.path.join(base, name), folder).replace(os.sep, '/')


def sums_of(out, names):
    result = {}
    for case in names:
        for path in files_under(out):
            stem = path.split('/')[0]
            if stem in (case, case + '.gguf') or (stem.startswith(case + '-0') and stem.endswith('.gguf')):
                with open(os.path.join(out, path), 'rb') as f:
                    result[path] = hashlib.sha256(f.read()).hexdigest()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out_dir')
    parser.add_argument('--check', action='store_true', help='compare with tests/models/tiny.sha256')
    parser.add_argument('--write-sums', action='store_true', help='write tests/models/tiny.sha256')
    parser.add_argument('--only', metavar='CASE', action='append', help='only this case (may be repeated)')
    args = parser.parse_args()
    cases = make_cases()
    names = [case['name'] for case in cases]
    for name in args.only or []:
        if name not in names:
            parser.error('unknown case %r; known: %s' % (name, ' '.join(names)))
    if args.only and args.write_sums:
        parser.error('--write-sums needs all cases')
    chosen = [case for case in cases if not args.only or case['name'] in args.only]
    os.makedirs(args.out_dir, exist_ok=True)
    for case in chosen:
        tensors = make_weights(case)
        write_folder(os.path.join(args.out_dir, case['name']), case, tensors)
        if case['gguf']:
            write_gguf(os.path.join(args.out_dir, case['name']), case, tensors)
    sums = sums_of(args.out_dir, [case['name'] for case in chosen])
    text = ''.join('%s  %s\n' % (sums[path], path) for path in sorted(sums))
    sys.stdout.write(text)
    if args.write_sums:
        with open(SUMS, 'w') as f:
            f.write(text)
    if args.check:
        with open(SUMS) as f:
            wanted = dict(reversed(line.rstrip('\n').split('  ', 1)) for line in f)
        wanted = {path: s for path, s in wanted.items() if any(
            path.split('/')[0] in (c['name'], c['name'] + '.gguf') or path.startswith(c['name'] + '-0') for c in chosen)}
        wrong = sorted(path for path in wanted.keys() | sums.keys() if wanted.get(path) != sums.get(path))
        if wrong:
            sys.exit('make_tiny.py: these files differ from tests/models/tiny.sha256: ' + ' '.join(wrong))


if __name__ == '__main__':
    main()
