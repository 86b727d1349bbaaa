// A policy that `hotloop export ... format=openvino` wrote, in C++: OpenVINO and nlohmann-json.
//
//     hotloop::Policy policy("OUT");
//     policy.reset(0);
//     std::vector<float> action = policy.act(frame);  // every policy.dt() seconds
//
// A frame is the observation: the vectors of all keys in the order of policy.json, side by side.
// Noise comes from std::normal_distribution: the same distribution as hotloop's, other numbers.
// Pictures, and policies of more network calls than fit one graph, are left to the Python runtime.
#pragma once

#include <cmath>
#include <deque>
#include <fstream>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <openvino/openvino.hpp>

namespace hotloop {

using Json = nlohmann::json;
using Values = std::vector<float>;
using Named = std::map<std::string, Values>;

inline Json read_json(const std::string& path) {
  std::ifstream stream(path);
  if (!stream) throw std::runtime_error(path + " cannot be read");
  return Json::parse(stream);
}

// One graph for one row.
class Graph {
 public:
  Graph(ov::Core& core, const std::string& folder, const Json& about) : about_(about) {
    if (!about.contains("file")) throw std::runtime_error("a graph of too many calls: use Python");
    auto model = core.read_model(folder + "/" + about["file"].get<std::string>());
    std::map<std::string, ov::PartialShape> shapes;
    for (const auto& port : about["inputs"]) {
      if (port["dtype"] != "float32") throw std::runtime_error("a policy that sees: use Python");
      std::vector<ov::Dimension> shape{1};
      for (const auto& size : port["shape"]) shape.emplace_back(size.get<int64_t>());
      shapes[port["name"]] = ov::PartialShape(shape);
    }
    model->reshape(shapes);
    // Processors with bfloat16 would use it.
    auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32),
                                       ov::inference_num_threads(1));
    request_ = compiled.create_infer_request();
  }

  Named run(const Named& inputs) {
    for (const auto& port : about_["inputs"]) {
      auto tensor = request_.get_tensor(port["name"].get<std::string>());
      const Values& values = inputs.at(port["name"]);
      if (values.size() != tensor.get_size()) throw std::runtime_error("wrong size of an input");
      std::copy(values.begin(), values.end(), tensor.data<float>());
    }
    request_.infer();
    Named outputs;
    for (size_t i = 0; i < about_["outputs"].size(); ++i) {
      auto tensor = request_.get_output_tensor(i);
      const float* data = tensor.data<float>();
      outputs[about_["outputs"][i]["name"]] = Values(data, data + tensor.get_size());
    }
    return outputs;
  }

  size_t size(const std::string& input) { return request_.get_tensor(input).get_size(); }
  const Json& about() const { return about_; }

 private:
  Json about_;
  ov::InferRequest request_;
};

class Policy {
 public:
  explicit Policy(const std::string& folder) : about_(read_json(folder + "/policy.json")) {
    if (about_["format"] != "hotloop.policy" || about_["format_version"] != 1)
      throw std::runtime_error(folder + " is of another format");
    for (const auto& [name, graph] : about_["graphs"].items())
      graphs_.emplace(name, Graph(core_, folder, graph));
    for (const auto& [name, shape] : about_["state"].items()) state_[name] = {};
  }

  double dt() const { return about_["dt"]; }
  std::map<std::string, Graph>& graphs() { return graphs_; }

  // Start an episode.
  void reset(unsigned seed) {
    generator_.seed(seed);
    frames_.clear();
    queue_.clear();
    started_ = false;
  }

  // The next action, physical units, inside the bounds of policy.json.
  Values act(const Values& frame) {
    for (float value : frame)
      if (!std::isfinite(value)) throw std::runtime_error("the frame holds NaN");
    const size_t num_frames = about_["num_obs_steps"];
    do frames_.push_back(frame); while (frames_.size() < num_frames);
    if (frames_.size() > num_frames) frames_.pop_front();
    if (queue_.empty()) plan();
    Values action = queue_.front();
    queue_.pop_front();
    for (float value : action)
      if (!std::isfinite(value)) throw std::runtime_error("the policy planned NaN");
    return action;
  }

 private:
  void plan() {
    const std::string name = !started_ && graphs_.count("start") ? "start" : "step";
    Graph& graph = graphs_.at(name);
    Named inputs;
    for (const auto& one : frames_)
      inputs["observation"].insert(inputs["observation"].end(), one.begin(), one.end());
    for (const auto& port : graph.about()["inputs"]) {
      const std::string input = port["name"];
      if (about_["state_input"].contains(input))
        inputs[input] = state_.at(about_["state_input"][input]);
    }
    for (const auto& input : about_["noise"][name])
      for (size_t i = graph.size(input); i > 0; --i) inputs[input].push_back(normal_(generator_));
    Named outputs = graph.run(inputs);
    for (auto& [key, value] : state_) value = outputs.at(key);
    const size_t size = about_["action"]["names"].size(), num_execute = about_["num_execute"];
    const Values& actions = outputs.at("actions");
    if (num_execute < 1 || actions.size() < num_execute * size)
      throw std::runtime_error("policy.json executes more actions than are planned");
    for (size_t i = 0; i < num_execute; ++i)
      queue_.emplace_back(actions.begin() + i * size, actions.begin() + (i + 1) * size);
    started_ = true;
  }

  Json about_;
  ov::Core core_;
  std::map<std::string, Graph> graphs_;
  Named state_;
  std::deque<Values> frames_, queue_;
  std::mt19937 generator_;
  std::normal_distribution<float> normal_;
  bool started_ = false;
};

}  // namespace hotloop
