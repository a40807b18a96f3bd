#!/bin/sh
# Licence texts of what is linked into a program, for the image that it goes into. In a module's folder, in its build stage:
#     licenses.sh go PLACE PACKAGE
#     licenses.sh rust PLACE PACKAGE
# A package without a licence text stops the build.
set -eu
place=$2

# Lines of "name version folder".
linked() {
    case $1 in
    # A module that is replaced by a folder is one of this repository.
    go) go list -deps -f '{{with .Module}}{{if and .Version (not (and .Replace (not .Replace.Version)))}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' "$2"
        echo "go $(go env GOVERSION) $(go env GOROOT)" ;;
    rust)
        cargo tree --locked --package "$2" --edges normal --prefix none --no-dedupe --format '{p}' |
            grep -v 'proc-macro\|(/' | while read -r name version _; do
            # Of the family that is one repository, one crate was published without its text.
            of=$name
            [ "$name" = tonic-prost ] && of=tonic
            echo "$name $version $(echo "$CARGO_HOME"/registry/src/*/"$of-${version#v}")"
        done ;;
    esac
}

linked "$1" "$3" | sort -u | while read -r name version folder; do
    to=$place/$name-$version
    mkdir -p "$to"
    cd "$folder"
    # Go's own folder has test data below.
    find . -maxdepth 3 -type f -iregex '.*/\(licen[cs]e\|copying\|notice\|patents\|unlicense\)[^/]*' ! -path '*/test*' \
        -exec cp --parents {} "$to" \;
    # Published without their text, which is the Apache License, as this repository has it.
    case $name in opentelemetry*) cp /LICENSE "$to" ;; esac
    [ -n "$(find "$to" -type f)" ] || { echo "$name $version has no licence text" >&2; exit 1; }
done
chmod -R a+rX "$place" # which is missing where nothing was listed
