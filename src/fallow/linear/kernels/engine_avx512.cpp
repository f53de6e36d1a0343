// AVX-512: 32 registers of 16 floats. Built with -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma.
#define FALLOW_ENGINE avx512
#define LANES 16
#define VECTORS_MIXED 4
#define VECTORS_SHARED 4
#define MAX_GROUP 4
#include "engine_body.h"
FALLOW_DEFINE_ENGINE(engine_avx512, "avx512")
