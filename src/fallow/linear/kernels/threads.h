// Jobs over threads: torch's own OpenMP threads where they can be found, so that two pools never compete for the cores.
#pragma once
#include <atomic>

namespace fallow {

struct Jobs {
  std::atomic<int> next{0};
  std::atomic<int> slots{0};
  int count;
  void (*call)(void* context, int job, int slot);
  void* context;
};

void run_jobs(Jobs& jobs, int threads);

// Calls work(job, slot) for each job below `count`, in any order; `slot`, below `threads`, is the caller's own meanwhile.
template <class Work>
void parallel(int threads, int count, Work&& work) {
  Jobs jobs;
  jobs.count = count;
  jobs.context = &work;
  jobs.call = [](void* context, int job, int slot) { (*static_cast<std::remove_reference_t<Work>*>(context))(job, slot); };
  run_jobs(jobs, threads < count ? threads : count);
}

}  // namespace fallow
