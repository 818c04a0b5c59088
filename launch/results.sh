#!/usr/bin/env bash
# Reproduces the results of launch/README.md: bash launch/results.sh SOURCE [OUT]
# SOURCE is a source of vqdist.shard. OUT (default: results, next to this folder) receives datasets, runs, reports,
# figures and table.md. Takes about eight hours on two cores with bf16 instructions, and twice as long without. If it is
# interrupted, run it again to continue. STEPS=20 limits every run to 20 steps, to check that everything works, with an
# OUT of its own (default: results-20-steps). Installs the package with its `bench` extra first; see environment.sh.
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

shard() { [[ -e $out/$1/dataset.json ]] || python -m vqdist.shard "$source" "$out/$1" "${@:2}" > /dev/null; }
encode() { [[ -e $out/$2/dataset.json ]] || python -m vqdist.encode --run "$out/$1" --out "$out/$2" --data "$out/images" "${@:3}" > /dev/null; }
sample() { [[ -e $out/$2/samples.json ]] || python -m vqdist.sample --prior "$out/$1" --out "$out/$2" "${@:3}" > /dev/null; }
evaluate() { [[ -e $out/reports/$1.json ]] || python -m vqdist.evaluate --out "$out/reports/$1.json" "${@:2}" > /dev/null; }

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
  evaluate "$name" --run "$out/$name" --data "$out/images"
}

# prior NAME TRAIN TEST [FLAGS]: trains the recommended prior for fewer steps; TRAIN and TEST are datasets of codes.
prior() {
  local name=$1 codes=$2 test=$3
  train "$name" pixelcnn_oasis "$codes" --train.max_steps 1000 --tracking.mode disabled "${@:4}"
  evaluate "$name" --run "$out/$name" --data "$out/$test"
}

shard images
train vqvae_oasis vqvae_oasis images
evaluate vqvae_oasis --run "$out/vqvae_oasis" --data "$out/images"

encode vqvae_oasis codes
encode vqvae_oasis codes-views --views 4 --shift 4
train pixelcnn_oasis pixelcnn_oasis codes-views
evaluate pixelcnn_oasis --run "$out/pixelcnn_oasis" --data "$out/codes"
sample pixelcnn_oasis samples --num 256
evaluate samples --run "$out/pixelcnn_oasis" --data "$out/codes" --samples "$out/samples"
for slice in 5 25; do
  sample pixelcnn_oasis "samples-slice-$slice" --num 64 --slice "$slice"
  # Not to W&B, where this report would replace that of the 256 samples above.
  WANDB_MODE=disabled evaluate "samples-slice-$slice" --run "$out/pixelcnn_oasis" --data "$out/codes" \
    --samples "$out/samples-slice-$slice" --figures null
done

# More bits per pixel: maps of 64 x 64.
train fine vqvae_oasis images --model.downsample 4 --model.patch 2 --train.max_steps 6000
evaluate fine --run "$out/fine" --data "$out/images"

# Vary the grid at one K, K at one grid, then one other key at a time.
for side in 4 8 16; do variant "downsample-$side" --model.downsample "$side" --model.patch "$((side < 8 ? 2 : 4))"; done
for codes in 64 128 256 1024 2048; do variant "codes-$codes" --model.num_codes "$codes"; done
for name in downsample-{4,8,16} codes-{64,128,256,1024,2048}; do
  encode "$name" "$name-codes"
  prior "$name-prior" "$name-codes" "$name-codes"
done
variant code-dim-16 --model.code_dim 16
variant gradient --model.codebook grad
variant no-restart --model.restart false
variant commitment-0.25 --model.commitment_weight 0.25
variant mse-alone --model.ssim_weight 0 --model.l1_weight 0
variant no-ssim --model.ssim_weight 0
variant adam --optim.name adam --optim.lr 1.5e-3 --optim.weight_decay 0
variant lr-6e-3 --optim.lr 6e-3
variant weight-ema --optim.weight_ema 0.999
variant not-mirrored --data.mirror none
variant whole-images --data.crop null --data.global_batch_size 2
variant layers-of-2017 --model.hidden 128 --model.residual_hidden 32 --model.residual_layers 2 \
  --model.patch 1 --model.fine_layers 0
evaluate rates --run "$out/vqvae_oasis" --data "$out/images" \
  --beside "$out/fine" "$out"/downsample-{4,8,16} "$out"/codes-{64,128,256,1024,2048}

# Vary one key of the prior at a time.
prior prior-as-it-is codes-views codes
prior prior-adam codes-views codes --optim.name adam --optim.lr 7e-3 --optim.weight_decay 0.01
prior prior-no-symmetry codes-views codes --model.symmetry none
prior prior-kernel-5 codes-views codes --model.kernel 5 --model.hidden 64 --model.layers 8
prior prior-no-dropout codes-views codes --model.dropout 0

# Check for codebook collapse with five seeds.
shard small --image-size 128
for seed in 0 1 2 3 4; do
  train "seed-$seed" vqvae_oasis small --train.max_steps 500 --run.seed "$seed" --tracking.mode disabled
  evaluate "seed-$seed" --run "$out/seed-$seed" --data "$out/small" --split validate
done

[[ -e $out/reports/peers.json ]] ||
  python -m vqdist.bench quality --run "$out/vqvae_oasis" --data "$out/images" --out "$out/reports/peers.json" > /dev/null

python launch/results_table.py "$out" | tee "$out/table.md"
