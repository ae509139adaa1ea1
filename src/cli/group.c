#include "cli/cli.h"

int cli_group(int argc, char **argv)
{
    (void)argc;
    return cli_fail(argv[0], "being built");
}
