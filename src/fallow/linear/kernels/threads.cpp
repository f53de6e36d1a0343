#include "threads.h"

#include <dlfcn.h>

#include <system_error>
#include <thread>
#include <vector>

namespace fallow {
namespace {

void work_off(void* shared) {
  Jobs& jobs = *static_cast<Jobs*>(shared);
  const int slot = jobs.slots.fetch_add(1);
  for (int job; (job = jobs.next.fetch_add(1)) < jobs.count;) jobs.call(jobs.context, job, slot);
}

// The entry of GNU OpenMP (LLVM's has it as well) in the copy that torch has loaded. A team with fewer threads than asked for
// is fine: jobs are taken one by one.
using Fork = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
Fork find_openmp() {
  return reinterpret_cast<Fork>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
}

}  // namespace

void run_jobs(Jobs& jobs, int threads) {
  if (threads <= 1) return work_off(&jobs);
  static const Fork openmp = find_openmp();
  if (openmp) return openmp(work_off, &jobs, static_cast<unsigned>(threads), 0);
  std::vector<std::thread> others;
  others.reserve(threads - 1);
  try {
    for (int i = 1; i < threads; i++) others.emplace_back(work_off, &jobs);
  } catch (const std::system_error&) {  // no more threads to be had: those that started do it all
  }
  work_off(&jobs);
  for (std::thread& other : others) other.join();
}

}  // namespace fallow
