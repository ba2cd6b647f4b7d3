export { ANSWER_KEPT_MS, answersOf, type AnswerRow, type Replaced, type ScoreRow, type ScoreSums } from "./answers.ts";
export { ScoreDesk } from "./desk.ts";
