#!/bin/sh
# Writes overlays/*/rayjob.yaml from overlays/*/template: kustomize cannot patch what stands inside a ConfigMap, so the
# RayJob is made first and then put in as a file. Run it after each change of a template or of base/rayjob.yaml.
set -eu
cd "$(dirname "$0")"
for overlay in overlays/*/; do
    made="$(kubectl kustomize --load-restrictor LoadRestrictionsNone "${overlay}template")"
    { echo "# Made by k8s/render-templates.sh from template/; change it there."; echo "$made"; } > "${overlay}rayjob.yaml"
done
