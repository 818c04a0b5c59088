#!/usr/bin/env bash
# Measures the results of launch/README.md: bash launch/results.sh SOURCE [OUT]
# SOURCE is a source of vqdist.shard. OUT (default: results, next to this folder) receives datasets, runs, reports,
# figures and table.md. All runs are on this machine; the recommended pair is trained with each of SEEDS ("0 1 2").
# Choices were made on validate; this measures test. Takes about nine hours on two cores with bf16 instructions, and
# twice as long without. If it is interrupted, run it again to continue. STEPS=20 limits every run to 20 steps, to check
# that everything works, with an OUT of its own (default: results-20-steps). FEATURES is a file for evaluate's
# --features. LESIONS is a folder with `pictures` of slices with and without lesions and their `masks`, which
# `vqdist score` is measured on. Installs the package with its `bench` extra first; see environment.sh.
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source-path=SCRIPTDIR
source "$here/usage.sh"
answer_help "$@"
source=$(realpath "${1:?usage: results.sh SOURCE [OUT]; SOURCE: a source of vqdist.shard}")
out=$(realpath --canonicalize-missing "${2:-$here/../results${STEPS:+-$STEPS-steps}}")
EXTRAS=bench
# shellcheck source-path=SCRIPTDIR
source "$here/environment.sh"

mkdir -p "$out/reports"
length=${STEPS:-all}
[[ -e $out/steps ]] || echo "$length" > "$out/steps"
if [[ $(<"$out/steps") != "$length" ]]; then
  echo "results.sh: STEPS: found $length; expected $(<"$out/steps"), as for the runs in $out, or another OUT" >&2
  exit 2
fi
read -ra seeds <<<"${SEEDS:-0 1 2}"
first=${seeds[0]}

shard() { [[ -e $out/$1/dataset.json ]] || python -m vqdist.shard "$source" "$out/$1" "${@:2}" > /dev/null; }
encode() { [[ -e $out/$2/dataset.json ]] || python -m vqdist.encode --run "$out/$1" --out "$out/$2" --data "$out/images" "${@:3}" > /dev/null; }
sample() { [[ -e $out/$2/samples.json ]] || python -m vqdist.sample --prior "$out/$1" --out "$out/$2" "${@:3}" > /dev/null; }
evaluate() { [[ -e $out/reports/$1.json ]] || python -m vqdist.evaluate --split test --out "$out/reports/$1.json" "${@:2}" > /dev/null; }

# train NAME CONFIG DATA [FLAGS]: does nothing if the run is finished.
train() {
  local name=$1 config=$2 data=$3
  python -m vqdist.train --config "$config" --data.path "$out/$data" --run.dir "$out" --run.name "$name" "${@:4}" \
    ${STEPS:+--train.max_steps "$STEPS"}
}

# variant NAME [FLAGS]: trains the recommended VQ-VAE for fewer steps, with some keys changed.
variant() {
  local name=$1
  train "$name" vqvae_oasis images --train.max_steps 2500 --tracking.mode disabled "${@:2}"
  evaluate "$name" --run "$out/$name"
}

shard images
for seed in "${seeds[@]}"; do
  train "vqvae-$seed" vqvae_oasis images --run.seed "$seed"
  evaluate "vqvae-$seed" --run "$out/vqvae-$seed"
  encode "vqvae-$seed" "codes-$seed" --views 16 --shift 4
  train "prior-$seed" pixelcnn_oasis "codes-$seed" --run.seed "$seed"
  sample "prior-$seed" "samples-$seed" --num 256 --seed "$seed"
  # The dataset of the run has all views of a slice: the baselines are counted on what the prior saw.
  evaluate "prior-$seed" --run "$out/prior-$seed" --samples "$out/samples-$seed" ${FEATURES:+--features "$FEATURES"}
done
for slice in 5 25; do
  sample "prior-$first" "samples-slice-$slice" --num 64 --slice "$slice"
  # Not to W&B, where this report would replace that of the 256 samples.
  WANDB_MODE=disabled evaluate "samples-slice-$slice" --run "$out/prior-$first" \
    --samples "$out/samples-slice-$slice" --figures null
done

# Volumes: each slice given the one before.
train volumes-prior pixelcnn_oasis "codes-$first" --run.seed "$first" --model.context previous --train.max_steps 3000
sample volumes-prior volumes --volumes 16 --seed "$first"
evaluate volumes-prior --run "$out/volumes-prior" --samples "$out/volumes"

# Scores and completions.
if [[ -n ${LESIONS:-} && ! -e $out/reports/lesions.json ]]; then
  python -m vqdist.score --prior "$out/prior-$first" --pictures "$LESIONS/pictures" --masks "$LESIONS/masks" \
    --healthy "$out/images:validate" --out "$out/scores" --overwrite true > "$out/lesions.json"
  mv "$out/lesions.json" "$out/reports/lesions.json"
fi
[[ -e $out/completion/completion.json ]] ||
  python launch/measure_completion.py "$out/prior-$first" "$out/images" "$out/completion" > /dev/null

# More bits per pixel, and single changes of the recommended VQ-VAE; each is compared with `unchanged`, slice by slice.
train fine vqvae_oasis images --model.downsample 4 --model.patch 2 --train.max_steps 6000
evaluate fine --run "$out/fine"
variant unchanged
variant downsample-16 --model.downsample 16
for codes in 128 2048; do variant "codes-$codes" --model.num_codes "$codes"; done
variant no-restart --model.restart false
variant gradient --model.codebook grad
variant adam --optim.name adam --optim.lr 1.5e-3 --optim.weight_decay 0
evaluate changes --run "$out/unchanged" \
  --beside "$out"/{downsample-16,codes-128,codes-2048,no-restart,gradient,adam} "$out/fine"

# Peers, trained as published for the wall time of the first run.
[[ -e $out/reports/peers.json ]] ||
  python -m vqdist.bench quality --run "$out/vqvae-$first" --data "$out/images" --out "$out/reports/peers.json" > /dev/null

python launch/results_table.py "$out" | tee "$out/table.md"
