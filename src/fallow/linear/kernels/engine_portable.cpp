// Vectors of 4 floats for whatever processor the compiler builds for: NEON on ARM, SSE2 on x86-64, plain code elsewhere.
#define FALLOW_ENGINE portable
#define LANES 4
#define VECTORS_MIXED 8
#define VECTORS_SHARED 4
#define MAX_GROUP 1
#include "engine_body.h"
FALLOW_DEFINE_ENGINE(engine_portable, "portable")
