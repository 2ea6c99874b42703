#!/bin/sh
# One step of a pipeline that provisions an environment, and only then rolls out what uses it:
#
#     rollout.sh provision ENVIRONMENT COMMIT [OPTION…]
#     rollout.sh full      ENVIRONMENT COMMIT [OPTION…]
#
# RECONCILER_SERVER is where the daemon answers, RECONCILER_TOKEN a token of it: of the role `provision` for
# the first step, `operate` for the second. Options are those of `reconciler apply`, such as --allow-hazard.
# The exit code is that of the command that failed; `full` has 3 where resources are not provisioned yet.
set -eu

step=$1 environment=$2 commit=$3
shift 3
case $step in
    provision) scope=--provision-only ;;
    full) scope=--full ;;
    *)
        echo "$step is no step; there are: provision, full" >&2
        exit 2
        ;;
esac

# What resources need at this commit: 0 nothing, 3 something, 4 nothing, though others altered what is there.
# The daemon fetches a commit that it does not know yet.
code=0
reconciler diff "$environment" --ref "$commit" --provision-only --exit-code \
    --server "$RECONCILER_SERVER" || code=$?
case $step:$code in
    provision:[034] | full:[04]) ;;
    full:3)
        echo "resources of $environment are not provisioned at $commit; nothing is rolled out" >&2
        exit 3
        ;;
    *) exit "$code" ;;
esac
reconciler apply "$environment" --ref "$commit" --wait --reason "pipeline, at $commit" \
    --server "$RECONCILER_SERVER" "$scope" "$@"
