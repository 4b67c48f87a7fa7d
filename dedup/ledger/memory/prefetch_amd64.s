#include "go_asm.h"
#include "textflag.h"

// func prefetchHome(x *index, hash uint32)
TEXT ·prefetchHome(SB), NOSPLIT, $0-12
	MOVQ x+0(FP), AX
	MOVL hash+8(FP), DX
	MOVL index_shift(AX), CX
	MOVQ index_slots(AX), AX
	ANDL $0x7fffffff, DX // without the bit that says "not empty"
	SHRL CX, DX
	PREFETCHT0 (AX)(DX*8)
	RET

// func prefetchMark(m *mark)
TEXT ·prefetchMark(SB), NOSPLIT, $0-8
	MOVQ m+0(FP), AX
	PREFETCHT0 mark_until(AX)
	RET
