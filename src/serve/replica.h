#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "llm/engine/engine.h"
#include "serve/live_probe.h"
#include "serve/step_limit.h"

namespace busbar {

/// One answer on its way through a replica. Its state is portable: token ids, and a sampler that knows seed and
/// position only; another replica can go on with it (Request::resume).
struct Job {
    Request request;  ///< on_token is the replica's own
    std::shared_ptr<Job> sibling;
    /// On the replica's thread; must not throw, and must be quick. false ends the answer (Finish::stop).
    std::function<bool(int32_t token, const std::vector<TokenScore>& best)> on_token;
    /// Another replica goes on with it, after tokens were handed out. On any thread, before the next token.
    std::function<void()> on_moved;
    /// Last call, on the replica's thread. `error`: what broke, "" where nothing did.
    std::function<void(Finish finish, const std::string& error)> on_end;

    std::atomic<bool> cancelled{false};
    int losses = 0;                  ///< replicas that broke with this job in the batch: it may be what breaks them
    std::vector<int32_t> generated;  ///< so far, resumed ones included
    int64_t cached = 0;              ///< positions of the prompt that were found kept
    double submitted = 0, admitted = 0, first_token = 0, last_token = 0;  ///< seconds_since_start()
};

/// Ends a job: its last call, and the end of what it holds.
void end_job(const std::shared_ptr<Job>& job, Finish finish, const std::string& error);

/// How a replica was lost.
enum class Loss : uint8_t { none, failed, hung, lied };
std::string_view name_of(Loss loss);

/// What a replica does just now; a copy.
struct ReplicaStatus {
    bool usable = true;
    Loss loss = Loss::none;
    std::string trouble;  ///< why not
    int64_t running = 0, waiting = 0;
    int64_t pages = 0, free_pages = 0;  ///< kept pages that nobody reads count as free
    uint64_t steps = 0, prompt_tokens = 0, generated_tokens = 0, cached_tokens = 0;
    double longest_step = 0;       ///< seconds, of the last ten seconds
    double step_began = 0;         ///< of the step under way; 0 = none
    double step_limit = 0;         ///< seconds after which it is late, going by the ones before; 0 = not known
    double tokens_per_second = 0;  ///< generated, over the last two seconds
    ProbeStatus probe;
};

/// A model on a chip with a thread of its own that steps it: jobs go in by a queue, tokens come out by callbacks.
class Replica {
  public:
    /// `owner` keeps the model. `times`: what steps took in this replica's lives before. `probe`: share of 0 = none.
    Replica(std::string name, LoadedModel& model, std::shared_ptr<void> owner, std::shared_ptr<StepTimes> times,
            const EngineOptions& options, const ProbeOptions& probe, int64_t most_waiting);
    ~Replica();

    const std::string& name() const { return name_; }
    LoadedModel& model() { return model_; }
    /// All of them or none: false where the queue is full or the replica is not usable.
    bool submit(const std::vector<std::shared_ptr<Job>>& jobs);
    /// Jobs that another replica began, however long the queue. False where the replica is not usable.
    bool adopt(const std::vector<std::shared_ptr<Job>>& jobs);
    /// Seen within one step.
    void cancel(Job& job);
    ReplicaStatus status() const;
    /// Takes every job away from a replica whose step does not end; it is not usable any more, and what it may still
    /// say is not heard. Any thread.
    std::vector<std::shared_ptr<Job>> abandon(const std::string& trouble);
    /// True where the thread hangs in a step that was given up: it cannot be joined, and the model must not go.
    bool hangs() const;

    using OnBroken = std::function<void(Replica&, std::vector<std::shared_ptr<Job>>, const std::string& trouble)>;
    /// Called on the replica's thread with every job that it had when it broke; without it they end with an error. Set
    /// before the first job.
    void on_broken(OnBroken call) { on_broken_ = std::move(call); }

  private:
    struct Running {
        std::shared_ptr<Job> job;
        int number;
    };
    void loop();
    void take_new();
    void drop_cancelled();
    void hand_over();
    void broken(Loss loss, const std::string& trouble);
    std::vector<std::shared_ptr<Job>> take_all(Loss loss, const std::string& trouble);
    void publish_status(double step_seconds);

    std::shared_ptr<void> owner_;  ///< first: goes last
    std::string name_;
    LoadedModel& model_;
    std::unique_ptr<LiveProbe> probe_;
    StepLimit limit_;
    EngineOptions options_;
    int64_t most_waiting_;
    std::unique_ptr<Engine> engine_;
    OnBroken on_broken_;

    /// Held while jobs_ changes and while a token is handed out: a job is spoken for by one replica only.
    std::mutex jobs_mutex_;
    std::vector<Running> jobs_;
    bool abandoned_ = false;

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::shared_ptr<Job>> inbox_;
    bool stop_ = false, cancels_ = false, ended_ = false;
    ReplicaStatus status_;
    uint64_t generated_ = 0;
    struct Sample {
        double when;
        uint64_t generated;
        double longest;
    };
    std::vector<Sample> history_;
    std::thread thread_;
};

}  // namespace busbar
