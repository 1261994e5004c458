#!/usr/bin/env bash
# Shows that the compiled ladder of batched X25519 is straight: builds the release benchmark, finds
# the loop that multiplies for a bit of the secret, and fails when that has a jump other than its
# own, a call, a gather, a division, or any indexed access but the one that reads the secret's byte.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
binary=$(cargo bench -p benches --bench x25519 --no-run 2>&1 |
    sed -n 's/.*(\(.*\/x25519-[0-9a-f]*\))$/\1/p')
objdump -d --no-show-raw-insn -C --disassembler-options=att "$binary" | awk '
    /^[0-9a-f]+ </ { inside = index($0, "x25519::ifma::"); name = $2 }
    !inside || $1 !~ /:$/ { next }
    {
        count++
        at[count] = substr($1, 1, length($1) - 1)
        line[count] = $0
        sub(/^ *[0-9a-f]+:[ \t]*/, "", line[count])
        of[count] = name
        index_of[at[count]] = count
        sum[count] = sum[count - 1] + (line[count] ~ /^vpmadd52/)
    }
    END {
        # A step of the ladder has 466 multiplications; the loop over groups, around it, has more.
        for (end = 1; end <= count; end++) {
            if (line[end] !~ /^j/) continue
            split(line[end], words)
            begin = index_of[words[2]]
            if (!begin || begin > end || of[begin] != of[end]) continue
            multiplications = sum[end] - sum[begin - 1]
            if (multiplications < 460 || multiplications > 480) continue
            found++
            printf "%s %d instructions, %d of them multiplications\n",
                of[end], end - begin + 1, multiplications
            for (i = begin; i <= end; i++) {
                if (line[i] ~ /^(j|call|loop|ret|div|idiv|vp?gather)/) {
                    printf "    %s\n", line[i]
                    if (i != end) bad++
                }
                if (line[i] ~ /\([^)]*,[^)]*\)/ && line[i] !~ /^(nop|lea|data16)/) {
                    printf "    indexed: %s\n", line[i]
                    if (++indexed[end] > 1) bad++
                }
            }
        }
        if (!found) { print "the loop was not found"; exit 1 }
        if (bad) { print "the loop is not straight"; exit 1 }
        print "the loop is straight"
    }
'
