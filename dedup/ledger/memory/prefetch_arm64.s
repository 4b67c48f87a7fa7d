#include "go_asm.h"
#include "textflag.h"

// func prefetchHome(x *index, hash uint32)
TEXT ·prefetchHome(SB), NOSPLIT, $0-12
	MOVD x+0(FP), R0
	MOVWU hash+8(FP), R1
	MOVWU index_shift(R0), R2
	MOVD index_slots(R0), R0
	ANDW $0x7fffffff, R1 // without the bit that says "not empty"
	LSRW R2, R1, R1
	ADD R1<<3, R0
	PRFM (R0), PLDL1KEEP
	RET

// func prefetchMark(m *mark)
TEXT ·prefetchMark(SB), NOSPLIT, $0-8
	MOVD m+0(FP), R0
	ADD $mark_until, R0
	PRFM (R0), PLDL1KEEP
	RET
