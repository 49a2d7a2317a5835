/* Prints size of every record of the contract and offset of every field. Compiled as C11 and as C++17: both must print
 * what stands in abi_golden.txt. A line of that file may be added, never changed. */
#include "busbar_chip.h"

#include <stdio.h>

#define STRUCT(type) printf("%s %zu\n", #type, sizeof(type));
#define FIELD(type, field) printf("  %s %zu\n", #field, offsetof(type, field));

int main(void) {
    printf("version %u.%u symbol %s\n", BUSBAR_CHIP_MAJOR, BUSBAR_CHIP_MINOR, BUSBAR_CHIP_SYMBOL);
#include "abi.inc"
    return 0;
}
