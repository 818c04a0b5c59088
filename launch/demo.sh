#!/usr/bin/env bash
# Runs the whole pipeline on synthetic slices: bash launch/demo.sh [FOLDER]
# FOLDER (default: runs) receives the dataset, both runs, the codes and the new slices. A second call skips finished
# steps. Installs the package alone first, without extras; see environment.sh.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/usage.sh"
answer_help "$@"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

runs=${1:-runs}
data=$runs/demo-data codes=$runs/demo-codes vqvae=$runs/vqvae_demo prior=$runs/pixelcnn_demo samples=$runs/demo-samples
ages=$runs/demo-ages

run() { # MODULE [FLAGS]: a signal reaches the module, which ends with a checkpoint
  python -m "$@" &
  local child=$! code=0 interrupted=1 ended
  trap 'interrupted=1; kill -TERM "$child" 2>/dev/null || true' TERM INT
  while ((interrupted)); do # a signal ends wait with a code of its own; the next wait returns that of the module
    interrupted=0 code=0
    wait "$child" || code=$?
  done
  trap - TERM INT
  ((code)) || return 0
  ended="ended with exit code $code"
  ((code != 75)) || ended="stopped with a checkpoint (exit code 75)"
  echo "demo.sh: $1 $ended; run demo.sh again: it skips finished steps and continues" >&2
  exit "$code"
}

[[ -e $data/dataset.json ]] || run vqdist.shard demo "$data" --image-size 80 --num-subjects 480 --num-slices 6
conditions=()  # of the prior; a dataset of an earlier version has no age and sex
grep -q '"attributes"' "$data/dataset.json" || conditions=(--model.condition slice --model.condition_dropout 0)
run vqdist.train --config configs/vqvae_demo.yaml --run.dir "$runs" --data.path "$data"
[[ -e $codes/dataset.json ]] || run vqdist.encode --run "$vqvae" --data "$data" --out "$codes"
run vqdist.train --config configs/pixelcnn_demo.yaml --run.dir "$runs" --data.path "$codes" \
  ${conditions[@]+"${conditions[@]}"}
[[ -e $runs/vqvae.json ]] ||
  run vqdist.evaluate --run "$vqvae" --data "$data" --split test --out "$runs/vqvae.json" > /dev/null
[[ -e $runs/prior.json ]] ||
  run vqdist.evaluate --run "$prior" --data "$codes" --split test --out "$runs/prior.json" > /dev/null
[[ -e $samples/samples.json ]] || run vqdist.sample --prior "$prior" --num 64 --out "$samples" > /dev/null
# The synthetic people are 20 to 90 years old; the youngest and the oldest one in train may be a little inside.
[[ -e $ages/samples.json || ${#conditions[@]} -gt 0 ]] ||
  run vqdist.sample --prior "$prior" --num 8 --out "$ages" --extrapolate true \
  --condition age=20,30,40,50,60,70,80,90 slice=4 sex=F --guidance 1 > /dev/null

python - "$runs" <<'REPORT'
import json
import sys
from pathlib import Path

runs = Path(sys.argv[1])
vqvae, prior = (json.loads((runs / name).read_text())["metrics"] for name in ("vqvae.json", "prior.json"))


def mean(metrics, name):
    value = metrics[name]
    return value["mean"] if isinstance(value, dict) else value


print(f"""
VQ-VAE on the test slices
  SSIM, full frame       {mean(vqvae, "ssim"):.3f}
  SSIM, inside the brain {mean(vqvae, "ssim_brain"):.3f}
  codes used             {mean(vqvae, "codes_used"):.0f}
PixelCNN on the test maps, bits per code
  ours                   {mean(prior, "bits_per_code"):.3f}
  per-position counts    {mean(prior, "position_bits_per_code"):.3f}
  best mixture of counts {mean(prior, "mixture_bits_per_code"):.3f}
  unigram counts         {mean(prior, "unigram_bits_per_code"):.3f}
  uniform                {mean(prior, "uniform_bits_per_code"):.3f}
Pictures
  originals above reconstructions  {sorted((runs / "vqvae_demo" / "previews").glob("*.png"))[-1]}
  new slices                       {runs / "demo-samples" / "grid.png"}
  20 to 90 years, the same noise   {runs / "demo-ages" / "grid.png"}""")
REPORT
