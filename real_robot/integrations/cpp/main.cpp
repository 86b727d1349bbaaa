// Proves an exported folder on this machine, then lets the policy act and times it.
//
//     hotloop_policy OUT [steps]

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "hotloop_policy.hpp"

static void flatten(const hotloop::Json& value, hotloop::Values& out) {
  if (value.is_array())
    for (const auto& one : value) flatten(one, out);
  else
    out.push_back(value.get<float>());
}

static hotloop::Named named(const hotloop::Json& values) {
  hotloop::Named found;
  for (const auto& [name, value] : values.items()) flatten(value, found[name]);
  return found;
}

// Largest difference of a graph from golden.json.
static float difference(hotloop::Graph& graph, const hotloop::Json& golden) {
  auto found = graph.run(named(golden["inputs"]));
  float largest = 0;
  for (const auto& [name, expected] : named(golden["outputs"]))
    for (size_t i = 0; i < expected.size(); ++i)
      largest = std::max(largest, std::abs(found.at(name)[i] - expected[i]));
  return largest;
}

int main(int argc, char** argv) try {
  if (argc < 2) throw std::runtime_error("usage: hotloop_policy OUT [steps]");
  const std::string folder = argv[1];
  const int steps = argc > 2 ? std::stoi(argv[2]) : 200;
  hotloop::Policy policy(folder);
  const auto golden = hotloop::read_json(folder + "/golden.json");
  hotloop::Values frame;
  for (auto& [name, graph] : policy.graphs()) {
    std::printf("%s: differs from golden.json by %.3g\n", name.c_str(),
                difference(graph, golden[name]));
    frame.clear();
    flatten(golden[name]["inputs"]["observation"][0][0], frame);
  }
  policy.reset(0);
  std::vector<double> times;
  for (int step = 0; step < steps; ++step) {
    const auto begin = std::chrono::steady_clock::now();
    const auto action = policy.act(frame);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    times.push_back(took.count());
    if (step < 3) {
      std::printf("action %d:", step);
      for (float value : action) std::printf(" %.6g", value);
      std::printf("\n");
    }
  }
  std::sort(times.begin(), times.end());
  std::printf("%d steps, at most %.3f ms\n", steps, times.back());
} catch (const std::exception& error) {
  std::fprintf(stderr, "hotloop_policy: %s\n", error.what());
  return 1;
}
