// Adds to an editor what the schema knows: completions while one types, explanations under the pointer.
// The server reads the text; nothing here knows the format.
import * as CM from "nicegui-codemirror";

async function ask(view, position, path) {
  const answer = await fetch("/help", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ text: view.state.doc.toString(), position, path }),
  });
  return answer.ok ? answer.json() : { completions: [], explanation: "" };
}

function completionSource(path) {
  return async (context) => {
    const before = context.state.sliceDoc(Math.max(0, context.pos - 1), context.pos);
    if (!context.explicit && !/["\w:{,\[ ]/.test(before)) return null;
    if (!context.explicit && !context.matchBefore(/"[\w$]*/)) return null;
    const found = await ask(context, context.pos, path);
    if (!found.completions.length) return null;
    return {
      from: found.begin,
      to: found.end,
      filter: false,
      options: found.completions.map((one) => ({
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
  };
}

function explanation(path) {
  return CM.hoverTooltip(async (view, position) => {
    const found = await ask(view, position, path);
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
}

window.addEditorHelp = async (id, path) => {
  const editor = await getElement(id).editorPromise;
  editor.dispatch({
    effects: CM.StateEffect.appendConfig.of([
      CM.EditorState.languageData.of(() => [{ autocomplete: completionSource(path) }]),
      explanation(path),
    ]),
  });
};
