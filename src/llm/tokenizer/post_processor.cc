#include "llm/tokenizer/post_processor.h"

#include <algorithm>

namespace busbar {

namespace {

constexpr int deepest = 32;
constexpr size_t most_ids = 1000;

class Reader {
  public:
    Reader(const Vocabulary& vocabulary, PostProcessor& out) : vocabulary_(vocabulary), out_(out) {}

    void read(const JsonObject& o, int depth) {
        const std::string type = o.need_string("type");
        if (depth > deepest) o.unsupported("nesting of", type, "up to 32 levels");
        if (type == "Sequence") {
            const Json& items = o.need_array("processors");
            for (size_t i = 0; i < items.size(); ++i) read({items[i], o.item("processors", i), o.address()}, depth + 1);
        } else if (type == "TemplateProcessing") {
            read_template(o);
        } else if (type == "BertProcessing" || type == "RobertaProcessing") {
            wrap({id_of(o, "cls")}, {id_of(o, "sep")}, o);
        } else if (type != "ByteLevel") {  // ByteLevel only moves offsets
            o.unsupported("post-processor", type,
                          "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, Sequence");
        }
    }

  private:
    TokenId checked(int64_t id, const JsonObject& o) const {
        if (id < 0 || id >= vocabulary_.size())
            throw bad_input(o.address(), "[tokenizer] expected ids 0..{} in '{}', got {}", vocabulary_.size() - 1,
                            o.path(""), id);
        return static_cast<TokenId>(id);
    }

    // ["</s>", 2]
    TokenId id_of(const JsonObject& o, const char* key) const {
        const Json& pair = o.need_array(key);
        if (pair.size() != 2) o.wrong(key, "a token and its id", pair);
        return checked(o.as_int(pair[1], key), o);
    }

    // Later processors of a sequence wrap what earlier ones made.
    void wrap(std::vector<TokenId> before, const std::vector<TokenId>& after, const JsonObject& o) {
        out_.before.insert(out_.before.begin(), before.begin(), before.end());
        out_.after.insert(out_.after.end(), after.begin(), after.end());
        if (out_.before.size() + out_.after.size() > most_ids) o.wrong("", "at most 1,000 added ids", o.json());
    }

    void read_template(const JsonObject& o) {
        const Json& single = o.need_array("single");
        const JsonObject specials =
            o.find("special_tokens") ? o.need_object("special_tokens") : JsonObject(empty_, "", o.address());
        std::vector<TokenId> before, after;
        bool seen = false;
        for (size_t i = 0; i < single.size(); ++i) {
            const JsonObject item(single[i], o.item("single", i), o.address());
            if (item.find("Sequence")) {
                const std::string id = item.need_object("Sequence").get_string("id", "A");
                if (seen || id != "A") item.unsupported("sequence", id, "one sequence, A");
                seen = true;
                continue;
            }
            const std::string name = item.need_object("SpecialToken").need_string("id");
            const JsonObject special = specials.need_object(name.c_str());
            for (const Json& id : special.need_array("ids"))
                (seen ? after : before).push_back(checked(special.as_int(id, "ids"), special));
        }
        if (!seen) o.wrong("single", "a template with the sequence A", single);
        wrap(before, after, o);
    }

    const Vocabulary& vocabulary_;
    PostProcessor& out_;
    Json empty_ = Json::object();
};

}  // namespace

PostProcessor PostProcessor::from_json(const Json& json, const Vocabulary& vocabulary, const std::string& address) {
    PostProcessor out;
    Reader(vocabulary, out).read({json, "post_processor", address}, 0);
    return out;
}

void PostProcessor::apply(std::vector<TokenId>& ids) const {
    const bool there = ids.size() >= before.size() && std::equal(before.begin(), before.end(), ids.begin());
    if (!there) ids.insert(ids.begin(), before.begin(), before.end());
    ids.insert(ids.end(), after.begin(), after.end());
}

}  // namespace busbar
