#!/usr/bin/env bash
# The demo model's recipe: corpus, training, evaluation, prompts. Run it from the project's root:
#
#     train/demo.sh [FOLDER]        (default build/demo; about an hour on two idle cores with AMX)
#
# It can be stopped at any time and run again: downloads are kept and training resumes from its last
# checkpoint. weights/demo/ holds what it made; weights/demo/README.md says what came out.
set -euo pipefail
out=${1:-build/demo}
corpus=build/corpus

make build/headway-train
[ -f "$corpus/manifest.json" ] || python3 train/corpus.py --out "$corpus"

resume=()
[ -f "$out/checkpoint.safetensors" ] && resume=(--resume)
nice build/headway-train --corpus "$corpus/train.bin" --held-out "$corpus/held-out.bin" \
    --out "$out" --kind replicated --heads 8 --head-weights 1,0.5,0.4,0.3,0.25,0.2,0.15,0.1 \
    --layers 8 --dim 256 --n-heads 4 --kv-heads 1 --hidden 704 --context 1024 --batch 4 \
    --steps 8000 --warmup 200 --rate 3e-3 --eval-every 1000 --save-every 250 --seed 1 "${resume[@]}"

for kind in code prose; do
    echo "== held-out $kind"
    build/headway-train --evaluate --out "$out" --held-out "$corpus/held-out-$kind.bin" \
        --eval-windows 0 --batch 4
done
python3 train/demo_prompts.py "$corpus" >"$out/prompts.json"
cp "$corpus/manifest.json" "$out/corpus.json"
