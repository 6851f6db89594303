/* The page, put into the program by the assembler so that it needs no files beside it. The path is
 * from the root, where make runs the compiler. */
#include "server/page.h"

__asm__(".section .rodata\n"
        ".globl PAGE\n"
        ".type PAGE, %object\n"
        "PAGE: .incbin \"server/web/page.html\"\n"
        ".byte 0\n"
        ".size PAGE, . - PAGE\n"
        ".previous\n");
