#!/bin/sh
# quote.sh -- a text file as string literals of C, one for each line. Usage: quote.sh FILE
set -eu
sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/?/\\?/g' -e 's/.*/"&\\n"/' "$1"
