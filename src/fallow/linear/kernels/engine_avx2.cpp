// AVX2 with fused multiply-add: 16 registers of 8 floats. Built with -mavx2 -mfma. A tile of 64 tokens keeps a row's sums in 8
// registers; four rows that share their columns keep theirs, for 24 tokens, in 12.
#define FALLOW_ENGINE avx2
#define LANES 8
#define VECTORS_MIXED 8
#define VECTORS_SHARED 3
#define MAX_GROUP 1
#include "engine_body.h"
FALLOW_DEFINE_ENGINE(engine_avx2, "avx2")
