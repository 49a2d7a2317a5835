#include "chips/plugin/worker.h"

#include <thread>

namespace busbar::plugin {

struct Worker::Thread {
    std::thread thread;
};

Worker::Worker() : shared_(std::make_shared<Shared>()), thread_(std::make_unique<Thread>()) {
    thread_->thread = std::thread([shared = shared_] { serve(shared); });
}

Worker::~Worker() {
    if (abandoned_) return;  // run() let go of the thread
    {
        const std::lock_guard lock(shared_->mutex);
        shared_->stop = true;
    }
    shared_->changed.notify_all();
    thread_->thread.join();
}

std::shared_ptr<std::atomic<int64_t>> Worker::progress() const {
    return shared_->progress;
}

void Worker::serve(const std::shared_ptr<Shared>& shared) {
    std::unique_lock lock(shared->mutex);
    while (true) {
        shared->changed.wait(lock, [&] { return shared->busy || shared->stop; });
        if (shared->stop) return;
        lock.unlock();
        shared->call();
        lock.lock();
        shared->call = nullptr;
        shared->busy = false;
        shared->changed.notify_all();
    }
}

bool Worker::run(std::function<void()> call, std::chrono::milliseconds limit) {
    if (abandoned_) return false;
    std::unique_lock lock(shared_->mutex);
    shared_->call = std::move(call);
    shared_->busy = true;
    shared_->progress->store(-1);
    shared_->changed.notify_all();
    int64_t at = -1;
    while (!shared_->changed.wait_for(lock, limit, [&] { return !shared_->busy; })) {
        if (const int64_t now = shared_->progress->load(); now != at) {
            at = now;  // something was finished meanwhile: slow, not stuck
            continue;
        }
        abandoned_ = true;
        shared_->stop = true;  // should the call ever come back, its thread ends there
        thread_->thread.detach();
        return false;
    }
    return true;
}

}  // namespace busbar::plugin
