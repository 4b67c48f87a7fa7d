#include "go_asm.h"
#include "textflag.h"

// func prefetch(x *index, hash uint32)
TEXT ·prefetch(SB), NOSPLIT, $0-12
	MOVQ x+0(FP), AX
	MOVL hash+8(FP), DX
	MOVL index_shift(AX), CX
	MOVQ index_slots(AX), AX
	ANDL $0x7fffffff, DX // without the bit that says "not empty"
	SHRL CX, DX
	PREFETCHT0 (AX)(DX*8)
	RET
