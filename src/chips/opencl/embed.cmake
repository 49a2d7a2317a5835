# cmake -DSOURCES=a.cl;b.cl -DOUT=x.cc -P embed.cmake: the texts as one C++ file. A raw literal may be 64 KB at least; the
# sources are far smaller.
set(body "")
foreach(path ${SOURCES})
  get_filename_component(name ${path} NAME_WE)
  file(READ ${path} text)
  string(APPEND body "    {\"${name}\", R\"~~~~(${text})~~~~\"},\n")
endforeach()
set(out "// Made by src/chips/opencl/embed.cmake.\n#include \"base/check.h\"\n#include \"chips/opencl/context.h\"\n\nnamespace busbar::opencl {\n\nstd::string_view source_text(std::string_view name) {\n    static const struct {\n        std::string_view name, text;\n    } sources[] = {\n${body}    };\n    for (const auto& s : sources)\n        if (s.name == name) return s.text;\n    BUSBAR_CHECK(false, \"no such source: \" + std::string(name));\n    return \"\";\n}\n\n}  // namespace busbar::opencl\n")
file(WRITE ${OUT} "${out}")
