#!/usr/bin/env bash
# Trains a small VQ-VAE and PixelCNN on open data, as a starter pair for the package: bash launch/starter.sh DATA [OUT]
# DATA is a folder of slices with cases.csv; only cases under an open licence are used, see open_cases.py. OUT (default:
# runs/starter) receives the dataset, the runs, the reports and OUT/pair: both models in half precision, at most 6 MB,
# with their card. To make them the models that `load_model("starter")` finds, copy OUT/pair to vqdist/starter. If it is
# interrupted, run it again to continue. STEPS=20 limits both runs to 20 steps, to check that everything works.
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source-path=SCRIPTDIR
source "$here/usage.sh"
answer_help "$@"
data=$(realpath "${1:?usage: starter.sh DATA [OUT]; DATA: a folder of slices with cases.csv}")
out=$(realpath --canonicalize-missing "${2:-$here/../runs/starter}")
# shellcheck source-path=SCRIPTDIR
source "$here/environment.sh"
MAX_BYTES=6000000

train() { # NAME CONFIG DATA [FLAGS]: does nothing if the run is finished
  python -m vqdist.train --config "$2" --run.dir "$out" --run.name "$1" --data.path "$out/$3" "${@:4}" \
    ${STEPS:+--train.max_steps "$STEPS"}
}
publish() { # RUN NAME [FLAGS]
  python -m vqdist.publish "$out/$1" "$out/$2" --overwrite true --license apache-2.0 \
    --data-terms "$(<launch/starter_data.md)" "${@:3}" > /dev/null
}
evaluate() { [[ -e $out/$1.json ]] || python -m vqdist.evaluate --out "$out/$1.json" "${@:2}" > /dev/null; }

if [[ ! -e $out/images/dataset.json ]]; then
  python launch/open_cases.py "$data" "$out/open"
  python -m vqdist.shard "$out/open" "$out/images" --image-size 128 --subject-pattern '(case_\d\d)\d' > /dev/null
fi
train vqvae vqvae_oasis images --model.activation relu --model.hidden 128 --model.residual_hidden 64 --model.num_codes 256 --train.max_steps 2400
# The codes are those of the VQ-VAE in half precision, which is the one in the pair.
publish vqvae vqvae-half --weights fp16
encode() { [[ -e $out/$1/dataset.json ]] || python -m vqdist.encode --run "$out/vqvae-half" --data "$out/images" --out "$out/$1" "${@:2}" > /dev/null; }
encode codes
encode codes-views --views 16 --shift 4
train prior pixelcnn_oasis codes-views --model.hidden 64 --model.layers 8 --model.dropout 0.2 --train.max_steps 2000
publish prior prior-half --weights fp16

evaluate vqvae-report --run "$out/vqvae-half" --data "$out/images" --split test
[[ -e $out/samples/samples.json ]] || python -m vqdist.sample --prior "$out/prior-half" --num 256 --out "$out/samples" > /dev/null
evaluate prior-report --run "$out/prior-half" --data "$out/codes" --split test --samples "$out/samples"
publish prior-half pair --report "$out/prior-report.json" "$out/vqvae-report.json"
sed -i 's|--prior pair |--prior starter |; s|load_model("pair")|load_model("starter")|; s|^# pair|# starter|' "$out/pair/README.md"  # its name in the package

bytes=$(cat "$out"/pair/model.safetensors "$out"/pair/vqvae/model.safetensors | wc -c)
if ((bytes > MAX_BYTES)); then
  echo "starter.sh: $out/pair: found $bytes bytes of weights; expected at most $MAX_BYTES" >&2
  exit 1
fi
echo "$out/pair: $bytes bytes of weights; its card is README.md, pictures are in $out/samples" >&2
