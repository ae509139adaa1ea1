#include <stdio.h>

int main(void)
{
    fprintf(stderr, "tally: no verb is built yet\n");
    return 2;
}
