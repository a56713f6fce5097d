// Adds to an editor what the schema knows: completions while one types, explanations under the pointer.
// The server reads the text; here is known only whether it is YAML.
import * as CM from "nicegui-codemirror";

const isYaml = new WeakMap();

async function ask(view, position) {
  const answer = await fetch("/help", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      text: view.state.doc.toString(),
      position,
      yaml: isYaml.get(view) ?? false,
    }),
  });
  return answer.ok ? answer.json() : { completions: [], explanation: "" };
}

async function complete(context) {
  // in YAML names have no quotes
  const begun = isYaml.get(context.view) ? /[\w$]+/ : /"[\w$]*/;
  if (!context.explicit && !context.matchBefore(begun)) return null;
  const found = await ask(context, context.pos);
  const typed = context.state.sliceDoc(found.begin, context.pos).replaceAll('"', "").toLowerCase();
  const begins = (one) => one.label.toLowerCase().startsWith(typed);
  const fitting = found.completions.filter((one) => one.label.toLowerCase().includes(typed));
  if (!fitting.length) return null;
  fitting.sort((one, other) => begins(other) - begins(one));
  return {
    from: found.begin,
    to: found.end,
    filter: false,
    options: fitting.map((one) => ({
      label: one.label,
      type: one.kind === "property" ? "property" : "enum",
      info: one.info || undefined,
      apply(view, completion, from, to) {
        // into the quotes or brackets of a new value
        const inside = /(""|\{\}|\[\])$/.test(one.text) ? 1 : 0;
        view.dispatch({
          changes: { from, to, insert: one.text },
          selection: { anchor: from + one.text.length - inside },
          userEvent: "input.complete",
        });
      },
    })),
  };
}

const explanation = CM.hoverTooltip(async (view, position) => {
  const found = await ask(view, position);
  if (!found.explanation) return null;
  return {
    pos: found.begin,
    end: found.end,
    create() {
      const dom = document.createElement("div");
      dom.className = "editor-explanation";
      dom.textContent = found.explanation;
      return { dom };
    },
  };
});

// One object for all look-ups: the editor knows a source by its identity, and asks a new one again.
const languageData = [{ autocomplete: complete }];

window.addEditorHelp = async (id, yaml) => {
  const editor = await getElement(id).editorPromise;
  isYaml.set(editor, yaml);
  editor.dispatch({
    effects: CM.StateEffect.appendConfig.of([
      CM.EditorState.languageData.of(() => languageData),
      explanation,
    ]),
  });
  window.editorsWithHelp = (window.editorsWithHelp ?? 0) + 1;
};
