#!/bin/bash
# Heads for a model that exists, from outside: the model writes text, heads are trained on it, killed
# and resumed to the same bytes; with them it is served to the same texts; heads that do not belong
# to it, or are broken, are refused with a sentence.
set -u
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
dir=$(mktemp -d /tmp/headway-heads-XXXXXX)
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf "$dir"' EXIT

fail() {
    echo "test_heads: $*" >&2
    [ -s "$dir/err" ] && sed 's/^/    /' "$dir/err" >&2
    exit 1
}

PYTHONPATH=tests/e2e python3 - "$dir" <<'END' || fail "no model"
import json, sys, tiny_gguf
tiny_gguf.write(sys.argv[1] + "/trunk.gguf")
prompts = [f"question {i}: {'abc' * (i % 7)}?" for i in range(80)]
json.dump(prompts, open(sys.argv[1] + "/prompts", "w"))
json.dump({"some": prompts[:4]}, open(sys.argv[1] + "/bench", "w"))
END
trunk=$dir/trunk.gguf

# ---- text, and heads trained on it ----

write() { # OUT OPTION...
    "$build/headway-write" --model "$trunk" --out "$dir/$1" --prompts "$dir/prompts" --answer 60 \
        --greedy 0 --temperature 1 "${@:2}" 2>"$dir/err" || fail "headway-write left with $?"
}
write text
write held --seed 2

train() { # OUT OPTION...
    "$build/headway-train" --trunk "$trunk" --corpus "$dir/text" --held-out "$dir/held" --out "$dir/$1" \
        --heads 4 --context 96 --batch 4 --steps 12 --warmup 2 --rate 3e-3 --draft-vocab 100 \
        "${@:2}" >"$dir/log" 2>"$dir/err" || fail "headway-train left with $?: $*"
}

same() {
    cmp "$dir/$1/checkpoint.safetensors" "$dir/$2/checkpoint.safetensors" &&
        cmp "$dir/$1/model.safetensors" "$dir/$2/model.safetensors" || fail "$3"
}

for kind in linear parallel causal recurrent; do
    train $kind --kind $kind --threads 1
    grep -q "tokens/forward" "$dir/log" || fail "no evaluation of $kind heads"
done
train threads --kind recurrent --threads 2
same recurrent threads "another number of threads ends in other bytes"

train aux --kind recurrent --aux-layers 1
train hard --kind linear --targets hard
train narrow --kind recurrent --head-hidden 16
train eagle3 --kind recurrent --eagle3 --aux-layers 1 --steps 60
train bigram --kind linear --next-token --bigram --prefix-layer
train before --kind parallel --bigram --prefix-layer

# While the rate stays at its peak, nothing tells that the run was to be longer.
train straight --kind linear --cooldown 0.5
train longer --kind linear --cooldown 0.5 --steps 16 --stop-after 6
train longer --kind linear --cooldown 0.5 --resume
same straight longer "a run whose number of steps has changed before its rate fell ends in other bytes"

# The corpus may grow then, the draft vocabulary stays.
write some --tokens 2000
cp "$dir/text" "$dir/all"
cp "$dir/some" "$dir/text"
train grown --kind linear --cooldown 0.5 --stop-after 3
cp "$dir/all" "$dir/text"
train grown --kind linear --cooldown 0.5 --resume

# From heads that there are: a step that changes nothing leaves them as they were.
train from --kind recurrent --from "$dir/recurrent" --steps 1 --warmup 0 --rate 0
cmp "$dir/recurrent/model.safetensors" "$dir/from/model.safetensors" || fail "--from reads other heads"

for round in 1 2 3; do
    "$build/headway-train" --trunk "$trunk" --corpus "$dir/text" --out "$dir/killed" --kind recurrent \
        --heads 4 --context 96 --batch 4 --steps 12 --warmup 2 --rate 3e-3 --draft-vocab 100 \
        --save-every 1 $([ -f "$dir/killed/checkpoint.safetensors" ] && echo --resume) >/dev/null 2>&1 &
    child=$!
    if [ $round = 1 ]; then # as soon as there is something to go on from
        until [ -f "$dir/killed/checkpoint.safetensors" ] || ! kill -0 $child 2>/dev/null; do :; done
    else
        sleep 0.1$round
    fi
    kill -9 $child 2>/dev/null
    wait $child 2>/dev/null
    child=
done
train killed --kind recurrent $([ -f "$dir/killed/checkpoint.safetensors" ] && echo --resume)
same recurrent killed "a run that was killed and resumed ends in other bytes"

# ---- several ranks ----

ranks() { # OUT OPTION...
    timeout 120 mpirun --allow-run-as-root --oversubscribe -n 2 "$build/headway-train" --trunk "$trunk" \
        --corpus "$dir/text" --held-out "$dir/held" --out "$dir/$1" --kind recurrent --heads 4 \
        --context 96 --batch 4 --steps 12 --warmup 2 --rate 3e-3 --draft-vocab 100 \
        --save-type f32 --precision f32 "${@:2}" >"$dir/log" 2>"$dir/err"
}
if [ "$build" = build ] && ldd build/headway-train | grep -q libmpi &&
    timeout 60 mpirun --allow-run-as-root --oversubscribe -n 2 true 2>/dev/null; then
    ranks two || fail "two ranks left with $?"
    ranks again || fail "two ranks left with $?"
    same two again "two ranks end in other bytes than two ranks"
    train one --kind recurrent --save-type f32 --precision f32
    python3 - "$dir" <<'END' || fail "two ranks learn something else than one"
import json, struct, sys
def tensors(name):
    data = open(f"{sys.argv[1]}/{name}/model.safetensors", "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    spans = [t["data_offsets"] for k, t in head.items() if k != "__metadata__" and t["dtype"] == "F32"]
    return [x for a, b in spans for x in struct.unpack(f"<{(b - a) // 4}f", data[8 + n + a:8 + n + b])]
one, two = tensors("one"), tensors("two")
off = [abs(a - b) for a, b in zip(one, two)]
# Adam's first steps follow the sign of a gradient, where that is near 0 its rounding.
assert sum(off) / len(off) < 2e-5, sum(off) / len(off)
END
    ranks straight2 --steps 300 || fail "two ranks left with $?"
    ranks killed2 --steps 300 --save-every 1 &
    child=$!
    for i in $(seq 400); do
        [ -f "$dir/killed2/checkpoint.safetensors" ] && break
        sleep 0.02
    done
    kill -9 "$(pgrep -f "^$build/headway-train.*$dir/killed2" | tail -1)"
    wait $child && fail "two ranks go on without one of them"
    child=
    grep -q "exited on signal 9" "$dir/err" || echo "test_heads: mpirun says nothing of a killed rank"
    ranks killed2 --steps 300 --resume || fail "two ranks left with $?"
    same straight2 killed2 "two ranks, one of them killed, and resumed end in other bytes"
    ranks odd --batch 5 && fail "5 texts shared by two ranks"
    grep -q "cannot be shared evenly by 2 ranks" "$dir/err" || fail "no sentence on 5 texts for two ranks"
else
    echo "test_heads: mpirun is not there, does not run here or was not built for: ranks not tested"
fi

# ---- served: the same texts ----

"$build/headway-convert" "$dir/recurrent" "$dir/q8" --type q8 2>"$dir/err" || fail "not converted"
for heads in linear parallel causal recurrent q8 aux hard narrow eagle3 bigram before grown; do
    "$build/headway-bench" --model "$trunk" --heads "$dir/$heads" --chat --prompts "$dir/bench" \
        --modes chain:1,chain:3,tree:6,both:6,auto --batch 1,3 --tokens 30 --repeat 1 \
        --json "$dir/json" >"$dir/log" 2>"$dir/err" || fail "headway-bench left with $? for $heads"
    grep -q '"identical": false' "$dir/json" && fail "$heads heads change a text"
    [ "$(grep -c '"identical": true' "$dir/json")" = 12 ] || fail "not 12 cells for $heads heads"
done

# Questions of a file of texts.
"$build/headway-bench" --model "$trunk" --heads "$dir/recurrent" --prompts "$dir/held" --limit 3 \
    --modes auto --tokens 12 --repeat 1 --json "$dir/json" >"$dir/log" 2>"$dir/err" ||
    fail "headway-bench left with $? for a file of texts"
grep -q '"text": "texts"' "$dir/json" || fail "no texts measured: $(cat "$dir/json")"

# ---- for other servers ----

# What a reference wrote in EAGLE-3's layout comes back byte for byte, and so do all fields.
eagle=tests/data/files/eagle3
"$build/headway-convert" $eagle/heads "$dir/read" --trunk $eagle/trunk 2>"$dir/err" || fail "not read"
"$build/headway-convert" "$dir/read" "$dir/written" --to eagle3 --trunk $eagle/trunk 2>"$dir/err" ||
    fail "not written"
python3 - $eagle/heads "$dir/written" <<'END' || fail "EAGLE-3's heads are written as others"
import json, struct, sys
def tensors(folder):
    data = open(f"{folder}/model.safetensors", "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    return {k: (t["dtype"], t["shape"], data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]])
            for k, t in json.loads(data[8:8 + n]).items() if k != "__metadata__"}
was, now = (tensors(folder) for folder in sys.argv[1:])
assert was.keys() == now.keys(), was.keys() ^ now.keys()
for name in was:
    assert was[name] == now[name], name
was, now = (json.load(open(f"{folder}/config.json")) for folder in sys.argv[1:])
for key, value in was.pop("eagle_config").items():
    assert now["eagle_config"][key] == value, key
for key, value in was.items():
    assert now[key] == value, (key, value, now.get(key))
END
# With heads of ours comes what they share with their trunk: its norm, and rows of its unembedding.
"$build/headway-convert" "$dir/eagle3" "$dir/theirs" --to eagle3 --trunk "$trunk" 2>"$dir/err" ||
    fail "heads of EAGLE-3's structure are not written"
PYTHONPATH=tests/e2e python3 - "$dir/theirs" <<'END' || fail "EAGLE-3's heads do not have their trunk's unembedding"
import json, random, struct, sys, tiny_gguf
data = open(f"{sys.argv[1]}/model.safetensors", "rb").read()
n = struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8:8 + n])
def read(name, form):
    a, b = head[name]["data_offsets"]
    return struct.unpack(f"<{(b - a) // struct.calcsize(form)}{form}", data[8 + n + a:8 + n + b])
def bf16(x):
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16
rng, trunk = random.Random(1), {}
for name, sizes in tiny_gguf.tensors(len(tiny_gguf.vocabulary()[0])):
    trunk[name] = tiny_gguf.numbers(sizes, rng)
d2t, dim = read("d2t", "q"), tiny_gguf.DIM
assert len(d2t) == 100 and read("norm.weight", "H") == (bf16(1),) * dim
for i, offset in enumerate(d2t):
    row = trunk["output.weight"][(i + offset) * dim:(i + offset + 1) * dim]
    assert read("lm_head.weight", "H")[i * dim:(i + 1) * dim] == tuple(map(bf16, row)), i
END
"$build/headway-convert" "$dir/theirs" "$dir/back" --trunk "$trunk" 2>"$dir/err" ||
    fail "what headway writes for others it does not read"
train back2 --kind recurrent --eagle3 --aux-layers 1 --from "$dir/back" --steps 1 --warmup 0 --rate 0
train eagle32 --kind recurrent --eagle3 --aux-layers 1 --from "$dir/eagle3" --steps 1 --warmup 0 --rate 0
python3 - "$dir" <<'END' || fail "heads predict otherwise when they are read again"
import json, sys
one, two = ([head["nats"] for line in open(f"{sys.argv[1]}/{name}/log.jsonl") if "held_out" in line
             for head in json.loads(line)["held_out"]] for name in ("eagle32", "back2"))
assert len(one) == 3 and all(abs(a / b - 1) < 1e-3 for a, b in zip(one, two)), (one, two)
END

# ---- what does not belong together ----

refused() { # TEXT PROGRAM OPTION...
    local text=$1
    shift
    "$build/$@" >"$dir/log" 2>"$dir/err" && fail "not refused: $*"
    grep -q -- "$text" "$dir/err" || fail "does not say '$text': $*"
}
bench() { # TEXT HEADS: what a server would refuse too
    refused "$1" headway-bench --model "$trunk" --heads "$dir/$2" --prompts "$dir/bench" --tokens 8
}
broken() { # NAME CHANGE: a copy of the recurrent heads with another config c
    cp -r "$dir/recurrent" "$dir/$1"
    python3 - "$dir/$1/config.json" "$2" <<'END'
import json, sys
c = json.load(open(sys.argv[1]))
exec(sys.argv[2])
json.dump(c, open(sys.argv[1], "w"))
END
}
broken hash 'c["trunk"] = "0123456789abcdef"'
bench "were trained for another trunk" hash
refused "were trained for another trunk" headway-server --model "$trunk" --heads "$dir/hash" --port 0
broken shape 'c["n_heads"] //= c["n_kv_heads"]; c["n_kv_heads"] = 1'
bench "must be the same" shape
broken slim 'c["hidden"] = 16'
bench "heads.1.layers.0.feed_forward.w1.weight' has shape \[128, 64\], but must have \[16, 64\]" slim
broken more 'c["heads"]["n"] = 40'
bench "heads.n" more
broken kind 'c["heads"].update(kind="linear", layers=0)'
bench "heads.1.linear.weight" kind
broken reads 'c["aux_layers"] = [1]'
bench "heads.1.fuse.weight" reads
broken beyond_it 'c["aux_layers"] = [1, 300]'
bench "'aux_layers' has 300 in place 1" beyond_it
broken knows 'c["bigram"] = True'
bench "'bigram' is for two heads and more" knows
broken prefix 'c["prefix_layer"] = True'
bench "'prefix_layer' is for heads on a trunk" prefix
broken many 'c["aux_layers"] = [1, 2, 3, 4, 5]'
bench "a list of at most 4 layers" many
refused "has layers 0 to" headway-train --trunk "$trunk" --corpus "$dir/text" --out "$dir/x" \
    --kind linear --context 96 --aux-layers 2,40
refused "with commas between them, not 'x'" headway-train --trunk "$trunk" --corpus "$dir/text" \
    --out "$dir/x" --kind linear --context 96 --aux-layers 1,x
broken trunkless 'del c["trunk"]'
bench "is a model, not heads" trunkless
bench "No such file" nowhere
refused "holds heads without their trunk" headway-bench --model "$dir/recurrent" --prompts "$dir/bench"
refused "cannot be had on a frozen trunk" headway-train --trunk "$trunk" --corpus "$dir/text" \
    --out "$dir/x" --kind anticausal
refused "has recurrent heads for this trunk, wanted are linear" headway-train --trunk "$trunk" \
    --corpus "$dir/text" --out "$dir/x" --context 96 --kind linear --from "$dir/recurrent"
refused "is no text of headway's" headway-train --trunk "$trunk" --corpus "$dir/prompts" --out "$dir/x"
refused "has prediction heads of its own" headway-train --trunk weights/demo --corpus "$dir/text" \
    --out "$dir/x" --context 96
refused "is a structure of recurrent heads" headway-train --trunk "$trunk" --corpus "$dir/text" --out "$dir/x" \
    --context 96 --kind linear --eagle3
refused "is too shallow for layers 2, L/2 and L-3" headway-train --trunk "$trunk" --corpus "$dir/text" \
    --out "$dir/x" --context 96 --kind recurrent --eagle3
refused "no heads of EAGLE-3's structure" headway-convert "$dir/recurrent" "$dir/x" --to eagle3 --trunk "$trunk"
refused "were trained for another trunk" headway-convert "$dir/eagle3" "$dir/x" --to eagle3 --trunk $eagle/trunk
refused "needs --trunk" headway-convert "$dir/eagle3" "$dir/x" --to eagle3
# EAGLE-3's, which do not say what they were trained for.
eagle3() { # TEXT CHANGE-OF-THE-CONFIG-C
    rm -rf "$dir/eagle3"
    cp -r $eagle/heads "$dir/eagle3"
    python3 - "$dir/eagle3/config.json" "$2" <<'END'
import json, sys
c = json.load(open(sys.argv[1]))
exec(sys.argv[2])
json.dump(c, open(sys.argv[1], "w"))
END
    refused "$1" headway-convert "$dir/eagle3" "$dir/x" --trunk $eagle/trunk
}
eagle3 "field 'hidden_size' is 64, the trunk's is 32" 'c["hidden_size"] = 64'
eagle3 "by the model's shape it must have" 'c["intermediate_size"] = 48'
eagle3 "'rope_theta' is 500, the trunk's is 10000" 'c["rope_theta"] = 500'
eagle3 "must be a rising list of layers of the trunk" 'c["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = [1, 2, 9]'
eagle3 "must be a rising list of layers of the trunk" 'c["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = [3, 2, 1]'
eagle3 "must be a list of 1 to 4 layers" 'c["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = []'
eagle3 "is too shallow for layers 2, L/2 and L-3" 'del c["eagle_config"]'
eagle3 "by the model's shape it must have" 'c["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = [1, 2]'
refused "tensor 'lm_head.weight'\|'lm_head.weight' is missing\|hidden_size" headway-convert $eagle/heads "$dir/x" --trunk "$trunk"

# Ids of the draft vocabulary that are no tokens, fall, or are of another type.
for change in beyond falling type; do
    cp -r "$dir/recurrent" "$dir/$change"
    python3 - "$dir/$change/model.safetensors" $change <<'END'
import json, struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
n = struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8:8 + n])
begin, end = head["draft_ids"]["data_offsets"]
if sys.argv[2] == "beyond":
    data[8 + n + end - 4:8 + n + end] = struct.pack("<i", 1 << 30)
elif sys.argv[2] == "falling":
    data[8 + n + begin:8 + n + begin + 4] = struct.pack("<i", 99)
else:
    text = json.dumps(head).replace('"I32"', '"F32"').encode()
    data[:8 + n] = struct.pack("<Q", len(text)) + text
open(sys.argv[1], "wb").write(data)
END
done
bench "tokens must rise from 0" beyond
bench "tokens must rise from 0" falling
for change in beyond falling; do
    refused "tokens must rise from 0" headway-train --trunk "$trunk" --corpus "$dir/text" \
        --out "$dir/x" --context 96 --kind recurrent --from "$dir/$change"
done
bench "of type I32" type
echo "test_heads: all is well"
