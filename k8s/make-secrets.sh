#!/bin/sh
# Prints the Secrets of an installation, for `kubectl create -f -`: what can be made up is random, the rest is asked for by
# variable. Refuses values that are empty or were plainly never filled in. Nothing is written to a file.
#
#   ./make-secrets.sh try        [NAMESPACE] | kubectl create -f -
#   ./make-secrets.sh production [NAMESPACE] | kubectl create -f -
#
# For production: TUNEYARD_DATABASE_URL=postgresql://USER:PASSWORD@HOST/NAME, MLFLOW_DATABASE_URL the same way for a
# database of MLflow's own, and AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY unless pods have an identity of the cloud.
set -eu

kind="${1:-}" namespace="${2:-tuneyard}"

refuse() {
    echo "make-secrets.sh: $1" >&2
    exit 2
}

random() { # letters and digits only, so that it may stand in a URL
    LC_ALL=C tr -dc 'A-Za-z0-9' < /dev/urandom | head -c "$1"
}

filled() { # NAME: the variable's value, if somebody has filled it in
    eval "value=\${$1:-}"
    case "$value" in
        "") refuse "$1 is empty; set it to the real value" ;;
        *[Cc][Hh][Aa][Nn][Gg][Ee]*[Mm][Ee]* | *"<"* | *PASSWORD* | *USER* | *HOST* | *example.*) refuse "$1 still holds a placeholder" ;;
    esac
    printf '%s' "$value"
}

database() { # NAME: a URL of a PostgreSQL that others can reach, too
    value="$(filled "$1")"
    case "$value" in
        postgresql://*:*@*/?*) printf '%s' "$value" ;;
        *) refuse "$1 must be postgresql://, with a user, a password, a host and a name" ;;
    esac
}

entry() { # KEY VALUE
    printf '  %s: %s\n' "$1" "$(printf '%s' "$2" | base64 | tr -d '\n')"
}

secret() { # NAME
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\n  labels: {app.kubernetes.io/part-of: tuneyard}\ntype: Opaque\ndata:\n' "$1" "$namespace"
}

case "$kind" in
    try)
        password="$(random 32)"
        service_url="postgresql://tuneyard:$password@postgres:5432/tuneyard"
        mlflow_url="postgresql://tuneyard:$password@postgres:5432/mlflow"
        key_id="tuneyard$(random 12)"
        key="$(random 40)"
        ;;
    production)
        service_url="$(database TUNEYARD_DATABASE_URL)"
        mlflow_url="$(database MLFLOW_DATABASE_URL)"
        [ "$service_url" != "$mlflow_url" ] || refuse "MLFLOW_DATABASE_URL must be another database than TUNEYARD_DATABASE_URL"
        key_id="" key=""
        if [ -n "${AWS_ACCESS_KEY_ID:-}${AWS_SECRET_ACCESS_KEY:-}" ]; then
            key_id="$(filled AWS_ACCESS_KEY_ID)" # one to a line: only the last of several can end the script
            key="$(filled AWS_SECRET_ACCESS_KEY)"
        fi
        ;;
    *) refuse "say what they are for: try or production" ;;
esac

made="$(
    secret tuneyard
    entry database-url "$service_url"
    entry mlflow-username tuneyard
    entry mlflow-password "$(random 32)"
    entry auth_token "$(random 64)"
    [ -z "$key_id" ] || entry aws-access-key-id "$key_id"
    [ -z "$key" ] || entry aws-secret-access-key "$key"
    secret mlflow
    entry database-url "postgresql+psycopg://${mlflow_url#postgresql://}"
    entry flask-secret-key "$(random 48)"
    if [ "$kind" = try ]; then
        secret postgres
        entry password "$password"
    fi
)"
printf '%s\n' "$made"
