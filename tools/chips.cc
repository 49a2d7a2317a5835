// busbar chips: every chip found, its profile, why one is not usable.
#include <fmt/format.h>

#include "base/error.h"
#include "common.h"

namespace busbar {

namespace {

std::string figure(const Figure& f, double unit, std::string_view name) {
    return f.value > 0 && f.origin != Figure::Origin::unknown
               ? fmt::format("{:.1f} {} ({})", f.value / unit, name, name_of(f.origin))
               : std::string("not known");
}

int chips(const CommonOptions& o) {
    apply_common(o);
    Json out = Json::array();
    for (const ChipSpec& spec : chip_table()) {
        Json row = {{"chip", spec.word}, {"doc", spec.doc}};
        const ChipFindings found = spec.find ? spec.find() : ChipFindings{};
        if (spec.find) row["devices"] = found.devices;
        try {
            if (!found.why.empty()) throw chip_error("", "{}", found.why);
            const auto device = spec.open({o.threads, ""});
            device->measure();
            const Profile& p = device->profile();
            row.update({{"usable", true},
                        {"detail", p.detail},
                        {"maker", p.maker},
                        {"driver", p.driver},
                        {"isas", spec.isas()},
                        {"kernels", p.rows.size()},
                        {"memory_bytes", p.memory_bytes.value},
                        {"read_gb_s", p.read_bytes_per_s.value / 1e9},
                        {"gflop_s", p.flops_per_s.value / 1e9}});
            if (!o.json)
                put(fmt::format(
                    "{:<10} {}\n           {}{}{}\n           memory {}, reads {}, f32 {}\n           {} "
                    "kernel rows{}\n",
                    spec.word, p.detail, p.maker, p.driver.empty() ? "" : ", ", p.driver,
                    figure(p.memory_bytes, 1e9, "GB"), figure(p.read_bytes_per_s, 1e9, "GB/s"),
                    figure(p.flops_per_s, 1e9, "GFLOP/s"), p.rows.size(),
                    spec.isas().size() > 1 ? fmt::format("; --isa {}", fmt::join(spec.isas(), " | ")) : ""));
            for (size_t i = 0; i < found.devices.size() && found.devices.size() > 1 && !o.json; ++i)
                put(fmt::format("           --chip {}:{}\n", spec.word, found.devices[i]));
        } catch (const Error& e) {
            row.update({{"usable", false}, {"why", e.what()}});
            if (!o.json) put(fmt::format("{:<10} not usable: {}\n", spec.word, e.what()));
        }
        out.push_back(row);
    }
    if (o.json) put_json(out);
    return 0;
}

}  // namespace

void add_chips(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<CommonOptions>();
    CLI::App* sub =
        app.add_subcommand("chips", "every chip found: name, maker, driver, memory, rates, why one is not usable");
    sub->footer("Examples:\n  busbar chips\n  busbar chips --json");
    add_common(*sub, *o);
    sub->callback([o, &exit_code] { exit_code = chips(*o); });
}

}  // namespace busbar
