#include "cli/cli.h"

int cli_produce(int argc, char **argv)
{
    (void)argc;
    return cli_fail(argv[0], "being built");
}
