#include <fmt/format.h>

#include <iostream>

#include "base/error.h"
#include "common.h"

namespace busbar {

namespace {

int run_command(int argc, char** argv) {
    CLI::App app{"Busbar runs an AI model, unchanged, on any maker's chip, and shows that the answers agree.",
                 "busbar"};
    app.footer(
        "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 bad input, 4 chip, 5 does not fit, 6 not enough evidence, "
        "70 defect, 130 interrupted.");
    app.require_subcommand(1);
    app.set_version_flag("--version", std::string("busbar ") + BUSBAR_VERSION);
    int exit_code = 0;
    add_run(app, exit_code);
    add_tokenize(app, exit_code);
    add_eval(app, exit_code);
    add_show(app, exit_code);
    add_chips(app, exit_code);
    add_doctor(app, exit_code);
    add_bench(app, exit_code);
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp& e) {
        return app.exit(e);
    } catch (const CLI::CallForAllHelp& e) {
        return app.exit(e);
    } catch (const CLI::CallForVersion& e) {
        return app.exit(e);
    } catch (const CLI::ParseError& e) {
        std::cerr << "busbar: " << e.what()
                  << "\n        `busbar --help` lists the commands, `busbar COMMAND --help` their options.\n";
        return static_cast<int>(ErrorCode::usage);
    }
    return exit_code;
}

}  // namespace

}  // namespace busbar

// The one place where an exception becomes an exit code and a message.
int main(int argc, char** argv) {
    using namespace busbar;
    catch_interrupt();
    try {
        return run_command(argc, argv);
    } catch (const ClosedPipe&) {
        return 0;  // the reader has what it wanted
    } catch (const Error& e) {
        std::cerr << "busbar: " << e.what() << '\n';
        return static_cast<int>(e.code());
    } catch (const std::bad_alloc&) {
        std::cerr << "busbar: [memory] the machine gave no more memory; a smaller --context or model may fit\n";
        return static_cast<int>(ErrorCode::does_not_fit);
    } catch (const std::exception& e) {
        std::cerr << "busbar: internal: " << e.what() << "\n        This is a defect in Busbar: please report it.\n";
        return static_cast<int>(ErrorCode::internal);
    }
}
